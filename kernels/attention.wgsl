// Attention with online softmax (FlashAttention-2, Dao 2023), one invocation a query.
// Includes: lib/attention.wgsl.
// And one of lib/attention-direct.wgsl and lib/attention-tiled.wgsl, as the rule chooses.
// Contract: lib/attention.wgsl; load_q4, load_k4, load_v4 read, store4 writes the output, store_second1 the log-sum-exp
// [BATCH, HEADS, QUERIES].
// Dispatch: BATCH * HEADS * TILES workgroups of ROWS.
// Numerics: f32, scores shifted by the running maximum; keys in order.

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
  for (var c = 0u; c < DEPTH4; c++) { q[c] = load_q4(own + 4u * c, valid(c)) * SCALE; }
  var out = array<vec4f, DEPTH4>();
  var highest = -3.4028234e38;
  var total = 0f;
  // Keys that any query of the workgroup sees.
  let end = select(KEYS, min(KEYS, (index % TILES + 1u) * ROWS), CAUSAL);
  for (var tile = 0u; tile < end; tile += SPAN) {
    bring(base, tile, lane);
    for (var t = 0u; t < min(SPAN, end - tile); t++) {
      if (CAUSAL && tile + t > row) { break; }
      var products = vec4f();
      for (var c = 0u; c < DEPTH4; c++) { products = fma(q[c], first_of(base, tile, t, c), products); }
      let x = (products.x + products.y) + (products.z + products.w);
      let top = max(highest, x);
      let shrink = exp(highest - top);
      let p = exp(x - top);
      highest = top;
      total = total * shrink + p;
      for (var c = 0u; c < DEPTH4; c++) { out[c] = fma(vec4f(p), second_of(base, tile, t, c), out[c] * shrink); }
    }
  }
  if (row >= QUERIES) { return; }
  for (var c = 0u; c < DEPTH4; c++) { store4(own + 4u * c, out[c] / total, valid(c)); }
  store_second1(head * QUERIES + row, highest + log(total));
}
