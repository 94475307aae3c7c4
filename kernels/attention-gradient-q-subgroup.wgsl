enable subgroups;

// Gradient of attention by queries (FlashAttention-2, Dao 2023) for adapters whose subgroups have exactly 8 lanes:
// ds = p * (g . v - delta), dq = SCALE * ds . k, with p = exp(SCALE * q . k - lse) computed again.
// Mapping: as attention-subgroup.wgsl, ROWS <= 16 queries a workgroup.
// Includes: lib/attention.wgsl, lib/attention-gradient.wgsl, lib/attention-subgroup.wgsl.
// Contract: lib/attention.wgsl; load_q4, load_k4, load_v4, load_o4 (the output), load_g4 read, store4 writes dq,
// store_second1 delta [BATCH, HEADS, QUERIES].
// Dispatch: BATCH * HEADS * TILES workgroups of 8.
// Numerics: f32, fixed order.

// Own are queries, met are keys.
const OWN = QUERIES;
const MET = KEYS;

// lse and delta of a query whose channels are at `row`.
fn row_terms(head: u32, token: u32, row: u32) -> vec2f {
  var sums = vec4f();
  for (var c = 0u; c < DEPTH4; c++) {
    let n = valid(c);
    sums = fma(load_g4(row + 4u * c, n), load_o4(row + 4u * c, n), sums);
  }
  let delta = (sums.x + sums.y) + (sums.z + sums.w);
  let at = terms_at(head, token);
  if (token < QUERIES) { store_second1(at, delta); }
  return vec2f(load_lse1(at), delta);
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
  let row0 = own_row(own_base, first + lane);
  let row1 = own_row(own_base, first + LANES + lane);
  // Where a workgroup has 8 rows or fewer, the others are its neighbour's.
  let terms0 = row_terms(head, first + lane, row0);
  var terms1 = terms0;
  if (ROWS > LANES) { terms1 = row_terms(head, first + LANES + lane, row1); }
  var dq = array<vec4f, CHUNKS * ROWS>();
  // Keys that any query of the workgroup sees.
  let end = select(KEYS, min(KEYS, first + ROWS), CAUSAL);
  for (var tile = 0u; tile < end; tile += 4u * LANES) {
    let own = tile + 4u * lane;
    let turns = min(COLUMNS, (end - tile + 4u * PARTS - 1u) / (4u * PARTS));
    let own0 = met_row(base, own);
    let own1 = met_row(base, own + 1u);
    let own2 = met_row(base, own + 2u);
    let own3 = met_row(base, own + 3u);
    var s = array<vec4f, ROWS>();
    for (var c = 0u; c < DEPTH4; c++) {
      let i = 4u * c;
      let n = valid(c);
      let low = load_q4(row0 + i, n);
      var high = low;
      if (ROWS > LANES) { high = load_q4(row1 + i, n); }
      let k = transpose(mat4x4f(load_k4(own0 + i, n), load_k4(own1 + i, n), load_k4(own2 + i, n), load_k4(own3 + i, n)));
      for (var r = 0u; r < ROWS; r++) {
        s[r] = madd(subgroupShuffle(select(low, high, r >= LANES), r % LANES), k, s[r]);
      }
    }
    var dp = array<vec4f, ROWS>();
    for (var c = 0u; c < DEPTH4; c++) {
      let i = 4u * c;
      let n = valid(c);
      let low = load_g4(row0 + i, n);
      var high = low;
      if (ROWS > LANES) { high = load_g4(row1 + i, n); }
      let v = transpose(mat4x4f(load_v4(own0 + i, n), load_v4(own1 + i, n), load_v4(own2 + i, n), load_v4(own3 + i, n)));
      for (var r = 0u; r < ROWS; r++) {
        dp[r] = madd(subgroupShuffle(select(low, high, r >= LANES), r % LANES), v, dp[r]);
      }
    }
    let keys = vec4u(own) + vec4u(0u, 1u, 2u, 3u);
    for (var r = 0u; r < ROWS; r++) {
      let terms = subgroupShuffle(select(terms0, terms1, r >= LANES), r % LANES);
      let p = exp2((s[r] * SCALE - terms.x) * LOG2E);
      let seen = keys < vec4u(select(KEYS, min(KEYS, first + r + 1u), CAUSAL));
      s[r] = select(vec4f(), p * (dp[r] - terms.y), seen);
    }
    for (var l = 0u; l < turns; l++) {
      let source = l * PARTS + part;
      let token = tile + 4u * source;
      for (var i = 0u; i < CHUNKS; i++) {
        let column = min(lane % COLUMNS + LANES * i, DEPTH4 - 1u);
        let n = valid(column);
        let k = mat4x4f(
          load_k4(met_row(base, token) + 4u * column, n),
          load_k4(met_row(base, token + 1u) + 4u * column, n),
          load_k4(met_row(base, token + 2u) + 4u * column, n),
          load_k4(met_row(base, token + 3u) + 4u * column, n),
        );
        for (var r = 0u; r < ROWS; r++) {
          dq[i * ROWS + r] = madd(subgroupShuffle(s[r], source), k, dq[i * ROWS + r]);
        }
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    for (var i = 0u; i < CHUNKS; i++) {
      let x = across_parts(dq[i * ROWS + r]);
      let column = lane % COLUMNS + LANES * i;
      if (part == 0u && column < DEPTH4 && first + r < QUERIES) {
        store4(own_row(own_base, first + r) + 4u * column, SCALE * x, valid(column));
      }
    }
  }
}
