// Gradient of attention by queries (FlashAttention-2, Dao 2023), one invocation a query (plain family without subgroups):
// ds = p * (g . v - delta), dq = SCALE * ds . k, with p = exp(SCALE * q . k - terms.x) computed again.
// Includes: lib/attention.wgsl, lib/attention-gradient.wgsl.
// Contract: load_q4, load_k4, load_v4, load_g4 read [BATCH, TOKENS, HEADS * DEPTH]; store4 writes dq.
// Dispatch: BATCH * HEADS * TILES workgroups of ROWS.
// Numerics: f32, keys in order.

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = workgroup_index(w);
  let head = index / TILES;
  let row = index % TILES * ROWS + lane;
  if (head >= BATCH * HEADS || row >= TOKENS) { return; }
  let base = head_start(head);
  let own = base + row * WIDTH;
  var q = array<vec4f, DEPTH4>();
  var g = array<vec4f, DEPTH4>();
  for (var c = 0u; c < DEPTH4; c++) {
    q[c] = load_q4(own + 4u * c, valid(c)) * SCALE;
    g[c] = load_g4(own + 4u * c, valid(c));
  }
  let terms = row_terms(head, row);
  var dq = array<vec4f, DEPTH4>();
  for (var key = 0u; key < TOKENS; key++) {
    let at = base + key * WIDTH;
    var scores = vec4f();
    var slopes = vec4f();
    for (var c = 0u; c < DEPTH4; c++) {
      scores = fma(q[c], load_k4(at + 4u * c, valid(c)), scores);
      slopes = fma(g[c], load_v4(at + 4u * c, valid(c)), slopes);
    }
    let p = exp((scores.x + scores.y) + (scores.z + scores.w) - terms.x);
    let ds = p * ((slopes.x + slopes.y) + (slopes.z + slopes.w) - terms.y) * SCALE;
    for (var c = 0u; c < DEPTH4; c++) { dq[c] = fma(vec4f(ds), load_k4(at + 4u * c, valid(c)), dq[c]); }
  }
  for (var c = 0u; c < DEPTH4; c++) { store4(own + 4u * c, dq[c], valid(c)); }
}
