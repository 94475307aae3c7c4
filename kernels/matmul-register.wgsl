// C[b,m,n] = sum over k of A[b,m,k] B[b,k,n] in registers alone: no subgroups, no workgroup memory, no barriers (plain
// family where subgroups are missing or have another size than 8).
// Includes: lib/matmul-operand.wgsl, lib/matmul-product.wgsl.
// Contract: ROWS, COLS, numbers BATCH, M, N, K, A_BATCH_STRIDE, B_BATCH_STRIDE (0 broadcasts), TRANSPOSE_A (A is stored [b, K, M]),
// TRANSPOSE_B (B is stored [b, N, K]); load_a4, load_b4 read, store4 writes.
// Mapping: an invocation owns 4 rows x 8 columns of C, a workgroup of 8 x 8 invocations ROWS x COLS. On software Vulkan
// taller, wider and narrower tiles and a K unrolled by 8 are slower.
// Dispatch: BATCH * ceil(M / ROWS) * ceil(N / COLS) workgroups of 8 x 8, columns fastest.
// Numerics: one chain of f32 fma over k = 0 ... K - 1 an element, so the result does not depend on the tiling.

// Rows row ... row + 3 of A from k on, 0 beyond K, so that whatever they meet in B adds nothing.
fn block_a(base: u32, row: u32, k: u32) -> mat4x4f {
  if (TRANSPOSE_A) {
    let column = k + vec4u(0u, 1u, 2u, 3u);
    let i = base + min(column, vec4u(numbers.K - 1u)) * numbers.M + row;
    let n = valid(row, numbers.M);
    return transpose(mat4x4f(
      load_a4(i.x, n),
      select(vec4f(), load_a4(i.y, n), column.y < numbers.K),
      select(vec4f(), load_a4(i.z, n), column.z < numbers.K),
      select(vec4f(), load_a4(i.w, n), column.w < numbers.K),
    ));
  }
  let i = base + min(row + vec4u(0u, 1u, 2u, 3u), vec4u(numbers.M - 1u)) * numbers.K + k;
  let n = valid(k, numbers.K);
  return mat4x4f(load_a4(i.x, n), load_a4(i.y, n), load_a4(i.z, n), load_a4(i.w, n));
}

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let tile = workgroup_index(w);
  let tile_cols = (numbers.N + COLS - 1u) / COLS;
  let tiles = (numbers.M + ROWS - 1u) / ROWS * tile_cols;
  let batch = tile / tiles;
  let row = tile % tiles / tile_cols * ROWS + local.y * 4u;
  let col = tile % tile_cols * COLS + local.x * 8u;
  if (batch >= numbers.BATCH || row >= numbers.M || col >= numbers.N) { return; }
  let base_a = batch * numbers.A_BATCH_STRIDE;
  let base_b = batch * numbers.B_BATCH_STRIDE;
  var left = mat4x4f();
  var right = mat4x4f();
  for (var k = 0u; k < numbers.K; k += 4u) {
    let a = block_a(base_a, row, k);
    left = product(a, block_b(base_b, k, col), left);
    right = product(a, block_b(base_b, k, col + 4u), right);
  }
  // The rows move up through the registers past the stores: the epilogue inlined for each row would compile slowly.
  let rows = valid(row, numbers.M);
  for (var r = 0u; r < rows; r++) {
    let i = (batch * numbers.M + row + r) * numbers.N + col;
    store4(i, left[0], valid(col, numbers.N));
    if (col + 4u < numbers.N) { store4(i + 4u, right[0], valid(col + 4u, numbers.N)); }
    left = mat4x4f(left[1], left[2], left[3], vec4f());
    right = mat4x4f(right[1], right[2], right[3], vec4f());
  }
}
