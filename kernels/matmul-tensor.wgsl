enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);
// C[b,m,n] = sum over k of A[b,m,k] B[b,k,n] on tensor cores (tensor family: subgroup matrices f16 x f16 -> f32, 16^3).
// Includes: lib/matmul-tile.wgsl.
// Contract: ROWS, COLS (64), numbers BATCH, M, N, A_BATCH_STRIDE, B_BATCH_STRIDE (0 broadcasts), TRANSPOSE_A (A is stored
// [b, K, M]), TRANSPOSE_B (B is stored [b, N, K]); PRODUCTS, inner_of, read_a4, read_b4 of lib/matmul-one.wgsl or
// lib/matmul-two.wgsl read, store4 writes. Extents along memory are multiples of 4.
// Mapping: a workgroup of 4 subgroups of 32 owns ROWS x COLS of C, a subgroup 32 x 32 of them as 2 x 2 matrices. For each
// DEPTH steps of k both tiles come to workgroup memory as f16 in their stored orientation; a matrix is then loaded by rows
// or by columns. Tiles have 2 vectors of padding a row against bank conflicts.
// Dispatch: BATCH * ceil(M / ROWS) * ceil(N / COLS) workgroups of 128, columns fastest.
// Numerics: operands rounded to f16, products and sums in f32; the order within 16 steps of k is the hardware's.
const DEPTH = 32u;
const LONG = DEPTH / 4u + 2u;
const WIDE = ROWS / 4u + 2u;

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Result = subgroup_matrix_result<f32, 16, 16>;

var<workgroup> tile_a: array<vec4<f16>, ROWS * LONG>;
var<workgroup> tile_b: array<vec4<f16>, COLS * LONG>;
var<workgroup> scratch: array<f32, 4 * 256>;

// Where vector `id` of a tile lies: x along DEPTH and y across it, both in elements; z is its place in the tile.
fn place(id: u32, along_memory: bool) -> vec3u {
  if (along_memory) { return vec3u(id % 8u * 4u, id / 8u, id / 8u * LONG + id % 8u); }
  return vec3u(id / 16u, id % 16u * 4u, id / 16u * WIDE + id % 16u);
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) id: u32) {
  let tile = tile_of(workgroup_index(w));
  if (tile.batch >= numbers.BATCH) { return; }
  let batch = tile.batch;
  let row = tile.row;
  let col = tile.col;
  let base_a = batch * numbers.A_BATCH_STRIDE;
  let base_b = batch * numbers.B_BATCH_STRIDE;
  let group = id / 32u;
  let y = group / 2u * 32u;
  let x = group % 2u * 32u;
  var sums: array<array<Result, 2>, 2>;
  for (var which = 0u; which < PRODUCTS; which++) {
    let inner = inner_of(which);
    for (var k = 0u; k < inner; k += DEPTH) {
      for (var i = id; i < ROWS * DEPTH / 4u; i += 128u) {
        let at = place(i, !TRANSPOSE_A);
        let m = row + at.y;
        let c = k + at.x;
        var value = vec4f();
        if (m < numbers.M && c < inner) { value = read_a4(which, base_a + select(m * inner + c, c * numbers.M + m, TRANSPOSE_A), 4u); }
        tile_a[at.z] = vec4<f16>(value);
      }
      for (var i = id; i < COLS * DEPTH / 4u; i += 128u) {
        let at = place(i, TRANSPOSE_B);
        let n = col + at.y;
        let c = k + at.x;
        var value = vec4f();
        if (n < numbers.N && c < inner) { value = read_b4(which, base_b + select(c * numbers.N + n, n * inner + c, TRANSPOSE_B), 4u); }
        tile_b[at.z] = vec4<f16>(value);
      }
      workgroupBarrier();
      for (var j = 0u; j < DEPTH; j += 16u) {
        for (var p = 0u; p < 2u; p++) {
          let m = y + 16u * p;
          var a: Left;
          if (TRANSPOSE_A) { a = subgroupMatrixLoad<Left, col_major>(&tile_a, j * WIDE + m / 4u, WIDE); }
          else { a = subgroupMatrixLoad<Left, row_major>(&tile_a, m * LONG + j / 4u, LONG); }
          for (var q = 0u; q < 2u; q++) {
            let n = x + 16u * q;
            var b: Right;
            if (TRANSPOSE_B) { b = subgroupMatrixLoad<Right, col_major>(&tile_b, n * LONG + j / 4u, LONG); }
            else { b = subgroupMatrixLoad<Right, row_major>(&tile_b, j * WIDE + n / 4u, WIDE); }
            sums[p][q] = subgroupMatrixMultiplyAccumulate(a, b, sums[p][q]);
          }
        }
      }
      workgroupBarrier();
    }
  }
  // One 16 x 16 matrix of each subgroup at a time goes through workgroup memory to the epilogue.
  for (var part = 0u; part < 4u; part++) {
    subgroupMatrixStore<row_major>(&scratch, group * 256u, sums[part / 2u][part % 2u], 16u);
    workgroupBarrier();
    for (var i = id % 32u; i < 64u; i += 32u) {
      let m = row + y + 16u * (part / 2u) + i / 4u;
      let n = col + x + 16u * (part % 2u) + i % 4u * 4u;
      let start = group * 256u + i * 4u;
      let value = vec4f(scratch[start], scratch[start + 1u], scratch[start + 2u], scratch[start + 3u]);
      if (m < numbers.M && n < numbers.N) { store4((batch * numbers.M + m) * numbers.N + n, value, min(4u, numbers.N - n)); }
    }
    workgroupBarrier();
  }
}
