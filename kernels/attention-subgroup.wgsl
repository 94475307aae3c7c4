enable subgroups;

// Attention with online softmax (FlashAttention-2, Dao 2023) for adapters whose subgroups have exactly 8 lanes.
//
// Mapping: a workgroup is one subgroup and takes ROWS <= 16 queries of one head, 32 keys at a time. For the scores lane l
// owns keys 4l ... 4l+3, and for each 4 channels the queries are loaded once and handed round by shuffles; for the
// weighted sum a lane owns columns of v, and the weights, still in registers, go round instead. On software Vulkan a
// load costs far more than arithmetic, so each one feeds many fused multiply-adds; no workgroup memory, no barriers.
// Includes: lib/attention.wgsl, lib/attention-subgroup.wgsl.
// Contract: lib/attention.wgsl; load_q4, load_k4, load_v4 read, store4 writes the output, store_second1 the log-sum-exp
// [BATCH, HEADS, QUERIES].
// Dispatch: BATCH * HEADS * TILES workgroups of 8.
// Numerics: f32, scores shifted by the running maximum; fixed order. Variables in loops are set to zero explicitly:
// left implicit they kept the values of the turn before.

// Own are queries, met are keys.
const OWN = QUERIES;
const MET = KEYS;

fn across_max(x: f32) -> f32 {
  let pair = max(x, subgroupShuffleXor(x, 1u));
  let quad = max(pair, subgroupShuffleXor(pair, 2u));
  return max(quad, subgroupShuffleXor(quad, 4u));
}

fn across_sum(x: f32) -> f32 {
  let pair = x + subgroupShuffleXor(x, 1u);
  let quad = pair + subgroupShuffleXor(pair, 2u);
  return quad + subgroupShuffleXor(quad, 4u);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let index = workgroup_index(w);
  let head = index / TILES;
  if (head >= numbers.BATCH * HEADS) { return; }
  let first = index % TILES * ROWS;
  let own_base = own_start(head);
  let base = met_start(head);
  let part = lane / COLUMNS;
  let q0 = own_row(own_base, first + lane);
  let q1 = own_row(own_base, first + LANES + lane);
  var out = array<vec4f, CHUNKS * ROWS>();
  var highest = array<f32, ROWS>();
  var total = array<f32, ROWS>();
  for (var r = 0u; r < ROWS; r++) { highest[r] = -3.4028234e38; }
  // Keys that any query of the workgroup sees: from the first on, so that every row has one in the first turn.
  let end = select(KEYS, min(KEYS, first + ROWS), CAUSAL);
  for (var tile = 0u; tile < end; tile += 4u * LANES) {
    let own = tile + 4u * lane;
    let turns = min(COLUMNS, (end - tile + 4u * PARTS - 1u) / (4u * PARTS));
    let k0 = met_row(base, own);
    let k1 = met_row(base, own + 1u);
    let k2 = met_row(base, own + 2u);
    let k3 = met_row(base, own + 3u);
    var s = array<vec4f, ROWS>();
    for (var c = 0u; c < DEPTH4; c++) {
      let i = 4u * c;
      let n = valid(c);
      let low = load_q4(q0 + i, n);
      var high = low;
      if (ROWS > LANES) { high = load_q4(q1 + i, n); }
      let k = transpose(mat4x4f(load_k4(k0 + i, n), load_k4(k1 + i, n), load_k4(k2 + i, n), load_k4(k3 + i, n)));
      for (var r = 0u; r < ROWS; r++) {
        s[r] = madd(subgroupShuffle(select(low, high, r >= LANES), r % LANES), k, s[r]);
      }
    }
    let keys = vec4u(own) + vec4u(0u, 1u, 2u, 3u);
    for (var r = 0u; r < ROWS; r++) {
      let seen = keys < vec4u(select(KEYS, min(KEYS, first + r + 1u), CAUSAL));
      let x = select(vec4f(-3.4028234e38), s[r] * (SCALE * LOG2E), seen);
      let top = max(highest[r], across_max(max(max(x.x, x.y), max(x.z, x.w))));
      let shrink = exp2(highest[r] - top);
      let p = exp2(x - top);
      highest[r] = top;
      total[r] = total[r] * shrink + ((p.x + p.y) + (p.z + p.w));
      s[r] = p;
      for (var i = 0u; i < CHUNKS; i++) { out[i * ROWS + r] *= shrink; }
    }
    for (var l = 0u; l < turns; l++) {
      let source = l * PARTS + part;
      let token = tile + 4u * source;
      for (var i = 0u; i < CHUNKS; i++) {
        let column = min(lane % COLUMNS + LANES * i, DEPTH4 - 1u);
        let n = valid(column);
        let v = mat4x4f(
          load_v4(met_row(base, token) + 4u * column, n),
          load_v4(met_row(base, token + 1u) + 4u * column, n),
          load_v4(met_row(base, token + 2u) + 4u * column, n),
          load_v4(met_row(base, token + 3u) + 4u * column, n),
        );
        for (var r = 0u; r < ROWS; r++) {
          out[i * ROWS + r] = madd(subgroupShuffle(s[r], source), v, out[i * ROWS + r]);
        }
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    let sum = across_sum(total[r]);
    for (var i = 0u; i < CHUNKS; i++) {
      let x = across_parts(out[i * ROWS + r]);
      let column = lane % COLUMNS + LANES * i;
      if (part == 0u && column < DEPTH4 && first + r < QUERIES) {
        store4(own_row(own_base, first + r) + 4u * column, x / sum, valid(column));
      }
    }
    if (lane == 0u && first + r < QUERIES) {
      store_second1(head * QUERIES + first + r, highest[r] / LOG2E + log(sum));
    }
  }
}
