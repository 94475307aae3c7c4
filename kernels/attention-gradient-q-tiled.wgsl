// Gradient of attention by queries (FlashAttention-2, Dao 2023), one invocation a query, keys and values shared through
// workgroup memory (tiled family): ds = p * (g . v - delta), dq = SCALE * ds . k, p = exp(SCALE * q . k - terms.x) again.
// Includes: lib/attention.wgsl, lib/attention-gradient.wgsl, lib/attention-tiled.wgsl.
// Contract: load_q4, load_k4, load_v4, load_g4 read [BATCH, TOKENS, HEADS * DEPTH]; store4 writes dq.
// Dispatch: BATCH * HEADS * TILES workgroups of ROWS.
// Numerics: f32, keys in order.

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = workgroup_index(w);
  let head = index / TILES;
  let row = index % TILES * ROWS + lane;
  if (head >= BATCH * HEADS) { return; }
  let base = head_start(head);
  // Invocations beyond the last token repeat it, so that all reach the barriers; they store nothing.
  let own = token_row(base, row);
  var q = array<vec4f, DEPTH4>();
  var g = array<vec4f, DEPTH4>();
  for (var c = 0u; c < DEPTH4; c++) {
    q[c] = load_q4(own + 4u * c, valid(c)) * SCALE;
    g[c] = load_g4(own + 4u * c, valid(c));
  }
  let terms = row_terms(head, row);
  var dq = array<vec4f, DEPTH4>();
  for (var tile = 0u; tile < TOKENS; tile += SPAN) {
    workgroupBarrier();
    for (var i = lane; i < SPAN * DEPTH4; i += ROWS) {
      let c = i % DEPTH4;
      let at = token_row(base, tile + i / DEPTH4) + 4u * c;
      first_tile[i] = load_k4(at, valid(c));
      second_tile[i] = load_v4(at, valid(c));
    }
    workgroupBarrier();
    for (var t = 0u; t < min(SPAN, TOKENS - tile); t++) {
      let at = t * DEPTH4;
      var scores = vec4f();
      var slopes = vec4f();
      for (var c = 0u; c < DEPTH4; c++) {
        scores = fma(q[c], first_tile[at + c], scores);
        slopes = fma(g[c], second_tile[at + c], slopes);
      }
      let p = exp((scores.x + scores.y) + (scores.z + scores.w) - terms.x);
      let ds = p * ((slopes.x + slopes.y) + (slopes.z + slopes.w) - terms.y) * SCALE;
      for (var c = 0u; c < DEPTH4; c++) { dq[c] = fma(vec4f(ds), first_tile[at + c], dq[c]); }
    }
  }
  if (row >= TOKENS) { return; }
  for (var c = 0u; c < DEPTH4; c++) { store4(own + 4u * c, dq[c], valid(c)); }
}
