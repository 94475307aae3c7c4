// Attention with online softmax (FlashAttention-2, Dao 2023), one invocation a query (plain family without subgroups).
// Includes: lib/attention.wgsl.
// Contract: load_q4, load_k4, load_v4 read [BATCH, TOKENS, HEADS * DEPTH]; store4 writes the same, store_second1 the
// log-sum-exp [BATCH, HEADS, TOKENS].
// Dispatch: BATCH * HEADS * TILES workgroups of ROWS.
// Numerics: f32, scores shifted by the running maximum; keys in order.

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = workgroup_index(w);
  let head = index / TILES;
  let row = index % TILES * ROWS + lane;
  if (head >= BATCH * HEADS || row >= TOKENS) { return; }
  let base = head_start(head);
  let own = base + row * WIDTH;
  var q = array<vec4f, DEPTH4>();
  for (var c = 0u; c < DEPTH4; c++) { q[c] = load_q4(own + 4u * c, valid(c)) * SCALE; }
  var out = array<vec4f, DEPTH4>();
  var highest = -3.4028234e38;
  var total = 0f;
  for (var key = 0u; key < TOKENS; key++) {
    let at = base + key * WIDTH;
    var products = vec4f();
    for (var c = 0u; c < DEPTH4; c++) { products = fma(q[c], load_k4(at + 4u * c, valid(c)), products); }
    let x = (products.x + products.y) + (products.z + products.w);
    let top = max(highest, x);
    let shrink = exp(highest - top);
    let p = exp(x - top);
    highest = top;
    total = total * shrink + p;
    for (var c = 0u; c < DEPTH4; c++) { out[c] = fma(vec4f(p), load_v4(at + 4u * c, valid(c)), out[c] * shrink); }
  }
  for (var c = 0u; c < DEPTH4; c++) { store4(own + 4u * c, out[c] / total, valid(c)); }
  store_second1(head * TOKENS + row, highest + log(total));
}
