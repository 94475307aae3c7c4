// C[b,m,n] = sum over k of A[b,m,k] B[b,k,n] through workgroup memory (tiled family: discrete GPUs).
// Includes: lib/matmul-tile.wgsl.
// Contract: ROWS, COLS, numbers BATCH, M, N, K, A_BATCH_STRIDE, B_BATCH_STRIDE (0 broadcasts), TRANSPOSE_A (A is stored [b, K, M]),
// TRANSPOSE_B (B is stored [b, N, K]); load_a4, load_b4, load_b1 read, store4 writes.
// Mapping: a workgroup of 16 x 16 invocations owns ROWS x COLS of C, an invocation 4 x 4. For each DEPTH steps of k every
// invocation brings one vector of A and one of B into workgroup memory. A keeps its stored orientation there, since the
// 4 x 4 products take rows or columns of it alike; B is always kept by rows, in rows of 17 vectors, so that neither
// reading nor writing meets a bank twice.
// Dispatch: BATCH * ceil(M / ROWS) * ceil(N / COLS) workgroups of 256, columns fastest.
// Numerics: one chain of f32 fma over k = 0 ... K - 1 an element, so the result does not depend on the tiling.
const DEPTH = 16u;
const PITCH = COLS / 4u + 1u;

var<workgroup> tile_a: array<vec4f, ROWS * DEPTH / 4u>;
var<workgroup> tile_b: array<vec4f, DEPTH * PITCH>;

// Vector `id` of A's tile at A[row, k], 0 outside A: 4 rows of column id / 16 or 4 columns of row id / 4.
fn fetch_a(base: u32, row: u32, k: u32, id: u32) -> vec4f {
  let m = row + select(id / 4u, id % 16u * 4u, TRANSPOSE_A);
  let c = k + select(id % 4u * 4u, id / 16u, TRANSPOSE_A);
  if (m >= numbers.M || c >= numbers.K) { return vec4f(); }
  if (TRANSPOSE_A) { return load_a4(base + c * numbers.M + m, min(4u, numbers.M - m)); }
  return load_a4(base + m * numbers.K + c, min(4u, numbers.K - c));
}

// Four columns of row k of B, 0 outside B. Where B is stored transposed, neighbouring invocations read neighbouring k.
fn fetch_b(base: u32, k: u32, col: u32) -> vec4f {
  if (k >= numbers.K || col >= numbers.N) { return vec4f(); }
  if (TRANSPOSE_B) {
    let i = base + min(col + vec4u(0u, 1u, 2u, 3u), vec4u(numbers.N - 1u)) * numbers.K + k;
    return vec4f(load_b1(i.x), load_b1(i.y), load_b1(i.z), load_b1(i.w));
  }
  return load_b4(base + k * numbers.N + col, min(4u, numbers.N - col));
}

// Rows 4 group ... 4 group + 3 of A's tile, columns k ... k + 3.
fn block_a(group: u32, k: u32) -> mat4x4f {
  if (TRANSPOSE_A) {
    let i = k * 16u + group;
    return transpose(mat4x4f(tile_a[i], tile_a[i + 16u], tile_a[i + 32u], tile_a[i + 48u]));
  }
  let i = group * 16u + k / 4u;
  return mat4x4f(tile_a[i], tile_a[i + 4u], tile_a[i + 8u], tile_a[i + 12u]);
}

fn row_product(a: vec4f, b: mat4x4f, c: vec4f) -> vec4f {
  return fma(vec4f(a.w), b[3], fma(vec4f(a.z), b[2], fma(vec4f(a.y), b[1], fma(vec4f(a.x), b[0], c))));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) id: u32) {
  let tile = tile_of(workgroup_index(w));
  if (tile.batch >= numbers.BATCH) { return; }
  let batch = tile.batch;
  let row = tile.row;
  let col = tile.col;
  let base_a = batch * numbers.A_BATCH_STRIDE;
  let base_b = batch * numbers.B_BATCH_STRIDE;
  let group_row = id / 16u;
  let group_col = id % 16u;
  let own = select(id, id / 16u + id % 16u * 16u, TRANSPOSE_B);
  var c0 = vec4f();
  var c1 = vec4f();
  var c2 = vec4f();
  var c3 = vec4f();
  for (var k = 0u; k < numbers.K; k += DEPTH) {
    tile_a[id] = fetch_a(base_a, row, k, id);
    tile_b[own / 16u * PITCH + own % 16u] = fetch_b(base_b, k + own / 16u, col + own % 16u * 4u);
    workgroupBarrier();
    for (var j = 0u; j < DEPTH; j += 4u) {
      let a = block_a(group_row, j);
      let i = j * PITCH + group_col;
      let b = mat4x4f(tile_b[i], tile_b[i + PITCH], tile_b[i + 2u * PITCH], tile_b[i + 3u * PITCH]);
      c0 = row_product(a[0], b, c0);
      c1 = row_product(a[1], b, c1);
      c2 = row_product(a[2], b, c2);
      c3 = row_product(a[3], b, c3);
    }
    workgroupBarrier();
  }
  let m = row + group_row * 4u;
  let n = col + group_col * 4u;
  if (n >= numbers.N) { return; }
  let i = (batch * numbers.M + m) * numbers.N + n;
  let width = min(4u, numbers.N - n);
  if (m < numbers.M) { store4(i, c0, width); }
  if (m + 1u < numbers.M) { store4(i + numbers.N, c1, width); }
  if (m + 2u < numbers.M) { store4(i + 2u * numbers.N, c2, width); }
  if (m + 3u < numbers.M) { store4(i + 3u * numbers.N, c3, width); }
}
