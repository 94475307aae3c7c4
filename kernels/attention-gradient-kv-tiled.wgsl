// Gradients of attention by keys and values (FlashAttention-2, Dao 2023), one invocation a key, queries shared through
// workgroup memory (tiled family): dv = p^T . g, dk = SCALE * ds^T . q, ds = p * (g . v - delta),
// p = exp(SCALE * q . k - lse) computed again.
// Contract: BATCH, TOKENS, HEADS, DEPTH, DEPTH4 = ceil(DEPTH / 4), SCALE, ROWS; load_q4, load_k4, load_v4, load_g4 read
// [BATCH, TOKENS, HEADS * DEPTH], load_lse1 [BATCH, HEADS, TOKENS], load_delta1 (row sums of g times the output)
// [BATCH, TOKENS, HEADS]; store4 writes dk, store_second4 dv.
// Dispatch: BATCH * HEADS * ceil(TOKENS / ROWS) workgroups of ROWS.
// Numerics: f32, queries in order.
const WIDTH = HEADS * DEPTH;
const TILES = (TOKENS + ROWS - 1u) / ROWS;
// Tokens of a tile: two tiles fit in the 16 KiB of workgroup memory that every adapter has.
const SPAN = max(1u, min(16u, 480u / DEPTH4));

var<workgroup> q_tile: array<vec4f, SPAN * DEPTH4>;
var<workgroup> g_tile: array<vec4f, SPAN * DEPTH4>;
var<workgroup> lse_tile: array<f32, SPAN>;
var<workgroup> delta_tile: array<f32, SPAN>;

// Channels of a vec4 column that are inside the head.
fn valid(column: u32) -> u32 {
  return min(4u, DEPTH - 4u * column);
}

@compute @workgroup_size(ROWS)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) lane: u32) {
  let index = workgroup_index(w);
  let head = index / TILES;
  let row = index % TILES * ROWS + lane;
  if (head >= BATCH * HEADS) { return; }
  let base = head / HEADS * TOKENS * WIDTH + head % HEADS * DEPTH;
  // Invocations beyond the last token repeat it, so that all reach the barriers; they store nothing.
  let token = min(row, TOKENS - 1u);
  let own = base + token * WIDTH;
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
      let at = base + min(tile + i / DEPTH4, TOKENS - 1u) * WIDTH + 4u * c;
      q_tile[i] = load_q4(at, valid(c));
      g_tile[i] = load_g4(at, valid(c));
    }
    for (var t = lane; t < SPAN; t += ROWS) {
      let query = min(tile + t, TOKENS - 1u);
      lse_tile[t] = load_lse1(head * TOKENS + query);
      delta_tile[t] = load_delta1((head / HEADS * TOKENS + query) * HEADS + head % HEADS);
    }
    workgroupBarrier();
    for (var t = 0u; t < min(SPAN, TOKENS - tile); t++) {
      let at = t * DEPTH4;
      var scores = vec4f();
      var slopes = vec4f();
      for (var c = 0u; c < DEPTH4; c++) {
        scores = fma(k[c], q_tile[at + c], scores);
        slopes = fma(v[c], g_tile[at + c], slopes);
      }
      let p = exp((scores.x + scores.y) + (scores.z + scores.w) - lse_tile[t]);
      let ds = p * ((slopes.x + slopes.y) + (slopes.z + slopes.w) - delta_tile[t]) * SCALE;
      for (var c = 0u; c < DEPTH4; c++) {
        dk[c] = fma(vec4f(ds), q_tile[at + c], dk[c]);
        dv[c] = fma(vec4f(p), g_tile[at + c], dv[c]);
      }
    }
  }
  if (row >= TOKENS) { return; }
  for (var c = 0u; c < DEPTH4; c++) {
    store4(own + 4u * c, dk[c], valid(c));
    store_second4(own + 4u * c, dv[c], valid(c));
  }
}
