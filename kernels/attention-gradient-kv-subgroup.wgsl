enable subgroups;

// Gradients of attention by keys and values (FlashAttention-2, Dao 2023) for adapters whose subgroups have exactly 8
// lanes: dv = p^T . g, dk = SCALE * ds^T . q, ds = p * (g . v - delta), with p = exp(SCALE * q . k - lse) computed again.
// Mapping: as attention-subgroup.wgsl with queries and keys exchanged: ROWS <= 16 keys a workgroup, 32 queries at a time.
// Includes: lib/attention.wgsl, lib/attention-gradient.wgsl, lib/attention-subgroup.wgsl.
// Contract: lib/attention.wgsl; load_q4, load_k4, load_v4, load_g4 read, store4 writes dk, store_second4 dv.
// Dispatch: BATCH * HEADS * TILES workgroups of 8.
// Numerics: f32, fixed order.

// Own are keys, met are queries.
const OWN = KEYS;
const MET = QUERIES;

// lse and delta of a query.
fn row_terms(head: u32, token: u32) -> vec2f {
  let at = terms_at(head, token);
  return vec2f(load_lse1(at), load_delta1(at));
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
  var dk = array<vec4f, CHUNKS * ROWS>();
  var dv = array<vec4f, CHUNKS * ROWS>();
  // Queries that see any key of the workgroup.
  let start = select(0u, first / (4u * LANES) * (4u * LANES), CAUSAL);
  for (var tile = start; tile < QUERIES; tile += 4u * LANES) {
    let own = tile + 4u * lane;
    let turns = min(COLUMNS, (QUERIES - tile + 4u * PARTS - 1u) / (4u * PARTS));
    let own0 = met_row(base, own);
    let own1 = met_row(base, own + 1u);
    let own2 = met_row(base, own + 2u);
    let own3 = met_row(base, own + 3u);
    let terms = mat4x2f(row_terms(head, own), row_terms(head, own + 1u), row_terms(head, own + 2u), row_terms(head, own + 3u));
    let lse = vec4f(terms[0].x, terms[1].x, terms[2].x, terms[3].x);
    let delta = vec4f(terms[0].y, terms[1].y, terms[2].y, terms[3].y);
    let queries = vec4u(own) + vec4u(0u, 1u, 2u, 3u);
    var p = array<vec4f, ROWS>();
    for (var c = 0u; c < DEPTH4; c++) {
      let i = 4u * c;
      let n = valid(c);
      let low = load_k4(row0 + i, n);
      var high = low;
      if (ROWS > LANES) { high = load_k4(row1 + i, n); }
      let q = transpose(mat4x4f(load_q4(own0 + i, n), load_q4(own1 + i, n), load_q4(own2 + i, n), load_q4(own3 + i, n)));
      for (var r = 0u; r < ROWS; r++) {
        p[r] = madd(subgroupShuffle(select(low, high, r >= LANES), r % LANES), q, p[r]);
      }
    }
    for (var r = 0u; r < ROWS; r++) {
      var seen = queries < vec4u(QUERIES);
      if (CAUSAL) { seen = seen & (queries >= vec4u(first + r)); }
      p[r] = select(vec4f(), exp2((p[r] * SCALE - lse) * LOG2E), seen);
    }
    for (var l = 0u; l < turns; l++) {
      let source = l * PARTS + part;
      let token = tile + 4u * source;
      for (var i = 0u; i < CHUNKS; i++) {
        let column = min(lane % COLUMNS + LANES * i, DEPTH4 - 1u);
        let n = valid(column);
        let g = mat4x4f(
          load_g4(met_row(base, token) + 4u * column, n),
          load_g4(met_row(base, token + 1u) + 4u * column, n),
          load_g4(met_row(base, token + 2u) + 4u * column, n),
          load_g4(met_row(base, token + 3u) + 4u * column, n),
        );
        for (var r = 0u; r < ROWS; r++) {
          dv[i * ROWS + r] = madd(subgroupShuffle(p[r], source), g, dv[i * ROWS + r]);
        }
      }
    }
    var ds = array<vec4f, ROWS>();
    for (var c = 0u; c < DEPTH4; c++) {
      let i = 4u * c;
      let n = valid(c);
      let low = load_v4(row0 + i, n);
      var high = low;
      if (ROWS > LANES) { high = load_v4(row1 + i, n); }
      let g = transpose(mat4x4f(load_g4(own0 + i, n), load_g4(own1 + i, n), load_g4(own2 + i, n), load_g4(own3 + i, n)));
      for (var r = 0u; r < ROWS; r++) {
        ds[r] = madd(subgroupShuffle(select(low, high, r >= LANES), r % LANES), g, ds[r]);
      }
    }
    for (var r = 0u; r < ROWS; r++) { ds[r] = p[r] * (ds[r] - delta); }
    for (var l = 0u; l < turns; l++) {
      let source = l * PARTS + part;
      let token = tile + 4u * source;
      for (var i = 0u; i < CHUNKS; i++) {
        let column = min(lane % COLUMNS + LANES * i, DEPTH4 - 1u);
        let n = valid(column);
        let q = mat4x4f(
          load_q4(met_row(base, token) + 4u * column, n),
          load_q4(met_row(base, token + 1u) + 4u * column, n),
          load_q4(met_row(base, token + 2u) + 4u * column, n),
          load_q4(met_row(base, token + 3u) + 4u * column, n),
        );
        for (var r = 0u; r < ROWS; r++) {
          dk[i * ROWS + r] = madd(subgroupShuffle(ds[r], source), q, dk[i * ROWS + r]);
        }
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) {
    for (var i = 0u; i < CHUNKS; i++) {
      let x = across_parts(dk[i * ROWS + r]);
      let y = across_parts(dv[i * ROWS + r]);
      let column = lane % COLUMNS + LANES * i;
      if (part == 0u && column < DEPTH4 && first + r < KEYS) {
        let at = own_row(own_base, first + r) + 4u * column;
        store4(at, SCALE * x, valid(column));
        store_second4(at, y, valid(column));
      }
    }
  }
}
