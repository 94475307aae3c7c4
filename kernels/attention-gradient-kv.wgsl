// Gradients of attention by keys and values (FlashAttention-2, Dao 2023), one invocation a key:
// dv = p^T . g, dk = SCALE * ds^T . q, ds = p * (g . v - delta), with p = exp(SCALE * q . k - lse) computed again.
// Includes: lib/attention.wgsl, lib/attention-gradient.wgsl.
// And one of lib/attention-direct.wgsl and lib/attention-tiled.wgsl, as the rule chooses.
// Contract: lib/attention.wgsl; load_q4, load_k4, load_v4, load_g4 read, store4 writes dk, store_second4 dv.
// Dispatch: BATCH * HEADS * TILES workgroups of ROWS.
// Numerics: f32, queries in order.

// Own are keys, met are queries.
const OWN = KEYS;
const MET = QUERIES;

fn first4(at: u32, n: u32) -> vec4f {
  return load_q4(at, n);
}

fn second4(at: u32, n: u32) -> vec4f {
  return load_g4(at, n);
}

// lse and delta of a query.
fn row_terms(head: u32, token: u32) -> vec2f {
  let at = terms_at(head, token);
  return vec2f(load_lse1(at), load_delta1(at));
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
  var k = array<vec4f, DEPTH4>();
  var v = array<vec4f, DEPTH4>();
  for (var c = 0u; c < DEPTH4; c++) {
    k[c] = load_k4(own + 4u * c, valid(c)) * SCALE;
    v[c] = load_v4(own + 4u * c, valid(c));
  }
  var dk = array<vec4f, DEPTH4>();
  var dv = array<vec4f, DEPTH4>();
  // Queries that see any key of the workgroup.
  let start = select(0u, index % TILES * ROWS / SPAN * SPAN, CAUSAL);
  for (var tile = start; tile < QUERIES; tile += SPAN) {
    bring(base, tile, lane);
    for (var t = 0u; t < min(SPAN, QUERIES - tile); t++) {
      if (CAUSAL && tile + t < row) { continue; }
      var scores = vec4f();
      var slopes = vec4f();
      for (var c = 0u; c < DEPTH4; c++) {
        scores = fma(k[c], first_of(base, tile, t, c), scores);
        slopes = fma(v[c], second_of(base, tile, t, c), slopes);
      }
      let terms = row_terms(head, tile + t);
      let p = exp((scores.x + scores.y) + (scores.z + scores.w) - terms.x);
      let ds = p * ((slopes.x + slopes.y) + (slopes.z + slopes.w) - terms.y) * SCALE;
      for (var c = 0u; c < DEPTH4; c++) {
        dk[c] = fma(vec4f(ds), first_of(base, tile, t, c), dk[c]);
        dv[c] = fma(vec4f(p), second_of(base, tile, t, c), dv[c]);
      }
    }
  }
  if (row >= KEYS) { return; }
  for (var c = 0u; c < DEPTH4; c++) {
    store4(own + 4u * c, dk[c], valid(c));
    store_second4(own + 4u * c, dv[c], valid(c));
  }
}
