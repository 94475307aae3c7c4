// C[b,m,n] = sum over k of A[b,m,k] B[b,k,n] in registers alone: no subgroups, no workgroup memory, no barriers (plain
// family where subgroups are missing or have another size than 8).
// Includes: lib/matmul-operand.wgsl, lib/matmul-product.wgsl.
// Contract: ROWS, COLS, numbers BATCH, M, N, A_BATCH_STRIDE, B_BATCH_STRIDE (0 broadcasts), TRANSPOSE_A (A is stored [b, K, M]),
// TRANSPOSE_B (B is stored [b, N, K]); PRODUCTS, inner_of, read_a4, read_b4 of lib/matmul-one.wgsl or lib/matmul-two.wgsl read,
// store4 writes.
// Mapping: an invocation owns 4 rows x 8 columns of C, a workgroup of 8 x 8 invocations ROWS x COLS. On software Vulkan
// taller, wider and narrower tiles and a K unrolled by 8 are slower.
// Dispatch: BATCH * ceil(M / ROWS) * ceil(N / COLS) workgroups of 8 x 8, columns fastest.
// Numerics: one chain of f32 fma over k = 0 ... K - 1 an element, of one product and then the other, so the result does not
// depend on the tiling.

// Rows row ... row + 3 of A from k on, 0 beyond K, so that whatever they meet in B adds nothing.
fn block_a(which: u32, base: u32, row: u32, k: u32) -> mat4x4f {
  let inner = inner_of(which);
  if (TRANSPOSE_A) {
    let column = k + vec4u(0u, 1u, 2u, 3u);
    let i = base + min(column, vec4u(inner - 1u)) * numbers.M + row;
    let n = valid(row, numbers.M);
    return transpose(mat4x4f(
      read_a4(which, i.x, n),
      select(vec4f(), read_a4(which, i.y, n), column.y < inner),
      select(vec4f(), read_a4(which, i.z, n), column.z < inner),
      select(vec4f(), read_a4(which, i.w, n), column.w < inner),
    ));
  }
  let i = base + min(row + vec4u(0u, 1u, 2u, 3u), vec4u(numbers.M - 1u)) * inner + k;
  let n = valid(k, inner);
  return mat4x4f(read_a4(which, i.x, n), read_a4(which, i.y, n), read_a4(which, i.z, n), read_a4(which, i.w, n));
}

// Four rows of eight columns of C.
struct Sums {
  left: mat4x4f,
  right: mat4x4f,
}

// Adds a product to them.
fn accumulate(which: u32, batch: u32, row: u32, col: u32, c: ptr<function, Sums>) {
  let base_a = batch * numbers.A_BATCH_STRIDE;
  let base_b = batch * numbers.B_BATCH_STRIDE;
  for (var k = 0u; k < inner_of(which); k += 4u) {
    let a = block_a(which, base_a, row, k);
    (*c).left = product(a, block_b(which, base_b, k, col), (*c).left);
    (*c).right = product(a, block_b(which, base_b, k, col + 4u), (*c).right);
  }
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
  var c = Sums();
  accumulate(0u, batch, row, col, &c);
  if (PRODUCTS == 2u) { accumulate(1u, batch, row, col, &c); }
  // The rows move up through the registers past the stores: the epilogue inlined for each row would compile slowly.
  let rows = valid(row, numbers.M);
  for (var r = 0u; r < rows; r++) {
    let i = (batch * numbers.M + row + r) * numbers.N + col;
    store4(i, c.left[0], valid(col, numbers.N));
    if (col + 4u < numbers.N) { store4(i + 4u, c.right[0], valid(col + 4u, numbers.N)); }
    c.left = mat4x4f(c.left[1], c.left[2], c.left[3], vec4f());
    c.right = mat4x4f(c.right[1], c.right[2], c.right[3], vec4f());
  }
}
