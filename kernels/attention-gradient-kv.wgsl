// Gradients of attention by keys and values (FlashAttention-2, Dao 2023), one invocation a key (plain family without
// subgroups): dv = p^T . g, dk = SCALE * ds^T . q, ds = p * (g . v - delta), p = exp(SCALE * q . k - lse) computed again.
// Includes: lib/attention.wgsl, lib/attention-gradient.wgsl.
// Contract: load_q4, load_k4, load_v4, load_g4 read [BATCH, TOKENS, HEADS * DEPTH]; store4 writes dk, store_second4 dv.
// Dispatch: BATCH * HEADS * TILES workgroups of ROWS.
// Numerics: f32, queries in order.

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = workgroup_index(w);
  let head = index / TILES;
  let row = index % TILES * ROWS + lane;
  if (head >= BATCH * HEADS || row >= TOKENS) { return; }
  let base = head_start(head);
  let own = base + row * WIDTH;
  var k = array<vec4f, DEPTH4>();
  var v = array<vec4f, DEPTH4>();
  for (var c = 0u; c < DEPTH4; c++) {
    k[c] = load_k4(own + 4u * c, valid(c)) * SCALE;
    v[c] = load_v4(own + 4u * c, valid(c));
  }
  var dk = array<vec4f, DEPTH4>();
  var dv = array<vec4f, DEPTH4>();
  for (var query = 0u; query < TOKENS; query++) {
    let at = base + query * WIDTH;
    var scores = vec4f();
    var slopes = vec4f();
    for (var c = 0u; c < DEPTH4; c++) {
      scores = fma(k[c], load_q4(at + 4u * c, valid(c)), scores);
      slopes = fma(v[c], load_g4(at + 4u * c, valid(c)), slopes);
    }
    let terms = row_terms(head, query);
    let p = exp((scores.x + scores.y) + (scores.z + scores.w) - terms.x);
    let ds = p * ((slopes.x + slopes.y) + (slopes.z + slopes.w) - terms.y) * SCALE;
    for (var c = 0u; c < DEPTH4; c++) {
      dk[c] = fma(vec4f(ds), load_q4(at + 4u * c, valid(c)), dk[c]);
      dv[c] = fma(vec4f(p), load_g4(at + 4u * c, valid(c)), dv[c]);
    }
  }
  for (var c = 0u; c < DEPTH4; c++) {
    store4(own + 4u * c, dk[c], valid(c));
    store_second4(own + 4u * c, dv[c], valid(c));
  }
}
