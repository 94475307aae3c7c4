// Gradients of attention by keys and values (FlashAttention-2, Dao 2023), one invocation a key, queries shared through
// workgroup memory (tiled family): dv = p^T . g, dk = SCALE * ds^T . q, ds = p * (g . v - delta),
// p = exp(SCALE * q . k - lse) computed again.
// Includes: lib/attention.wgsl, lib/attention-gradient.wgsl, lib/attention-tiled.wgsl.
// Contract: load_q4, load_k4, load_v4, load_g4 read [BATCH, TOKENS, HEADS * DEPTH]; store4 writes dk, store_second4 dv.
// Dispatch: BATCH * HEADS * TILES workgroups of ROWS.
// Numerics: f32, queries in order.
var<workgroup> terms_tile: array<vec2f, SPAN>;

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = workgroup_index(w);
  let head = index / TILES;
  let row = index % TILES * ROWS + lane;
  if (head >= BATCH * HEADS) { return; }
  let base = head_start(head);
  // Invocations beyond the last token repeat it, so that all reach the barriers; they store nothing.
  let own = token_row(base, row);
  var k = array<vec4f, DEPTH4>();
  var v = array<vec4f, DEPTH4>();
  for (var c = 0u; c < DEPTH4; c++) {
    k[c] = load_k4(own + 4u * c, valid(c)) * SCALE;
    v[c] = load_v4(own + 4u * c, valid(c));
  }
  var dk = array<vec4f, DEPTH4>();
  var dv = array<vec4f, DEPTH4>();
  for (var tile = 0u; tile < TOKENS; tile += SPAN) {
    workgroupBarrier();
    for (var i = lane; i < SPAN * DEPTH4; i += ROWS) {
      let c = i % DEPTH4;
      let at = token_row(base, tile + i / DEPTH4) + 4u * c;
      first_tile[i] = load_q4(at, valid(c));
      second_tile[i] = load_g4(at, valid(c));
    }
    for (var t = lane; t < SPAN; t += ROWS) { terms_tile[t] = row_terms(head, tile + t); }
    workgroupBarrier();
    for (var t = 0u; t < min(SPAN, TOKENS - tile); t++) {
      let at = t * DEPTH4;
      var scores = vec4f();
      var slopes = vec4f();
      for (var c = 0u; c < DEPTH4; c++) {
        scores = fma(k[c], first_tile[at + c], scores);
        slopes = fma(v[c], second_tile[at + c], slopes);
      }
      let p = exp((scores.x + scores.y) + (scores.z + scores.w) - terms_tile[t].x);
      let ds = p * ((slopes.x + slopes.y) + (slopes.z + slopes.w) - terms_tile[t].y) * SCALE;
      for (var c = 0u; c < DEPTH4; c++) {
        dk[c] = fma(vec4f(ds), first_tile[at + c], dk[c]);
        dv[c] = fma(vec4f(p), second_tile[at + c], dv[c]);
      }
    }
  }
  if (row >= TOKENS) { return; }
  for (var c = 0u; c < DEPTH4; c++) {
    store4(own + 4u * c, dk[c], valid(c));
    store_second4(own + 4u * c, dv[c], valid(c));
  }
}
