// Gradient of attention by queries (FlashAttention-2, Dao 2023), one invocation a query:
// ds = p * (g . v - delta), dq = SCALE * ds . k, with p = exp(SCALE * q . k - lse) computed again.
// Includes: lib/attention.wgsl, lib/attention-gradient.wgsl.
// And one of lib/attention-direct.wgsl and lib/attention-tiled.wgsl, as the rule chooses.
// Contract: lib/attention.wgsl; load_q4, load_k4, load_v4, load_o4 (the output), load_g4 read, store4 writes dq,
// store_second1 delta [BATCH, HEADS, QUERIES].
// Dispatch: BATCH * HEADS * TILES workgroups of ROWS.
// Numerics: f32, keys in order.

// Own are queries, met are keys.
const OWN = QUERIES;
const MET = KEYS;

fn first4(at: u32, n: u32) -> vec4f {
  return load_k4(at, n);
}

fn second4(at: u32, n: u32) -> vec4f {
  return load_v4(at, n);
}

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = workgroup_index(w);
  let head = index / TILES;
  let row = index % TILES * ROWS + lane;
  if (head >= numbers.BATCH * HEADS) { return; }
  let base = met_start(head);
  // Invocations beyond the last token repeat it, so that all reach the barriers; they store nothing.
  let own = own_row(own_start(head), row);
  var q = array<vec4f, DEPTH4>();
  var g = array<vec4f, DEPTH4>();
  var sums = vec4f();
  for (var c = 0u; c < DEPTH4; c++) {
    q[c] = load_q4(own + 4u * c, valid(c)) * SCALE;
    g[c] = load_g4(own + 4u * c, valid(c));
    sums = fma(g[c], load_o4(own + 4u * c, valid(c)), sums);
  }
  let terms = vec2f(load_lse1(terms_at(head, row)), (sums.x + sums.y) + (sums.z + sums.w));
  var dq = array<vec4f, DEPTH4>();
  // Keys that any query of the workgroup sees.
  let end = select(KEYS, min(KEYS, (index % TILES + 1u) * ROWS), CAUSAL);
  for (var tile = 0u; tile < end; tile += SPAN) {
    bring(base, tile, lane);
    for (var t = 0u; t < min(SPAN, end - tile); t++) {
      if (CAUSAL && tile + t > row) { break; }
      var scores = vec4f();
      var slopes = vec4f();
      for (var c = 0u; c < DEPTH4; c++) {
        scores = fma(q[c], first_of(base, tile, t, c), scores);
        slopes = fma(g[c], second_of(base, tile, t, c), slopes);
      }
      let p = exp((scores.x + scores.y) + (scores.z + scores.w) - terms.x);
      let ds = p * ((slopes.x + slopes.y) + (slopes.z + slopes.w) - terms.y) * SCALE;
      for (var c = 0u; c < DEPTH4; c++) { dq[c] = fma(vec4f(ds), first_of(base, tile, t, c), dq[c]); }
    }
  }
  if (row >= QUERIES) { return; }
  store_second1(terms_at(head, row), terms.y);
  for (var c = 0u; c < DEPTH4; c++) { store4(own + 4u * c, dq[c], valid(c)); }
}
