// Gradient of attention by queries (FlashAttention-2, Dao 2023), one invocation a query, keys and values shared through
// workgroup memory (tiled family): ds = p * (g . v - delta), dq = SCALE * ds . k, p = exp(SCALE * q . k - lse) again.
// Contract: BATCH, TOKENS, HEADS, DEPTH, DEPTH4 = ceil(DEPTH / 4), SCALE, ROWS; load_q4, load_k4, load_v4, load_g4 read
// [BATCH, TOKENS, HEADS * DEPTH], load_lse1 [BATCH, HEADS, TOKENS], load_delta1 (row sums of g times the output)
// [BATCH, TOKENS, HEADS]; store4 writes dq.
// Dispatch: BATCH * HEADS * ceil(TOKENS / ROWS) workgroups of ROWS.
// Numerics: f32, keys in order.
const WIDTH = HEADS * DEPTH;
const TILES = (TOKENS + ROWS - 1u) / ROWS;
// Tokens of a tile: two tiles fit in the 16 KiB of workgroup memory that every adapter has.
const SPAN = max(1u, min(16u, 480u / DEPTH4));

var<workgroup> k_tile: array<vec4f, SPAN * DEPTH4>;
var<workgroup> v_tile: array<vec4f, SPAN * DEPTH4>;

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
  var q = array<vec4f, DEPTH4>();
  var g = array<vec4f, DEPTH4>();
  for (var c = 0u; c < DEPTH4; c++) {
    q[c] = load_q4(own + 4u * c, valid(c)) * SCALE;
    g[c] = load_g4(own + 4u * c, valid(c));
  }
  let lse = load_lse1(head * TOKENS + token);
  let delta = load_delta1((head / HEADS * TOKENS + token) * HEADS + head % HEADS);
  var dq = array<vec4f, DEPTH4>();
  for (var tile = 0u; tile < TOKENS; tile += SPAN) {
    workgroupBarrier();
    for (var i = lane; i < SPAN * DEPTH4; i += ROWS) {
      let c = i % DEPTH4;
      let at = base + min(tile + i / DEPTH4, TOKENS - 1u) * WIDTH + 4u * c;
      k_tile[i] = load_k4(at, valid(c));
      v_tile[i] = load_v4(at, valid(c));
    }
    workgroupBarrier();
    for (var t = 0u; t < min(SPAN, TOKENS - tile); t++) {
      let at = t * DEPTH4;
      var scores = vec4f();
      var slopes = vec4f();
      for (var c = 0u; c < DEPTH4; c++) {
        scores = fma(q[c], k_tile[at + c], scores);
        slopes = fma(g[c], v_tile[at + c], slopes);
      }
      let p = exp((scores.x + scores.y) + (scores.z + scores.w) - lse);
      let ds = p * ((slopes.x + slopes.y) + (slopes.z + slopes.w) - delta) * SCALE;
      for (var c = 0u; c < DEPTH4; c++) { dq[c] = fma(vec4f(ds), k_tile[at + c], dq[c]); }
    }
  }
  if (row >= TOKENS) { return; }
  for (var c = 0u; c < DEPTH4; c++) { store4(own + 4u * c, dq[c], valid(c)); }
}
