enable subgroups;
// C[b,m,n] = sum over k of A[b,m,k] B[b,k,n] where subgroups have exactly 8 lanes (plain family: software Vulkan).
// Includes: lib/matmul-tile.wgsl, lib/matmul-operand.wgsl, lib/matmul-product.wgsl.
// Contract: ROWS (16 or 32), COLS (32), TRANSPOSE_A (A is stored [b, K, M]), TRANSPOSE_B (B is stored [b, N, K]); numbers
// BATCH, M, N, A_BATCH_STRIDE, B_BATCH_STRIDE (0 broadcasts); PRODUCTS, inner_of, read_a4, read_b4 of lib/matmul-one.wgsl
// or lib/matmul-two.wgsl read, store4 writes. With SUMS, of one A that is stored transposed, store_second4 writes the sums
// of its rows, [M], for a batch of one.
// Mapping: a workgroup is one subgroup and owns ROWS x COLS of C; lane l owns columns 4l ... 4l + 3 of all rows. In each
// step of 4 k the lanes load blocks of 16 x 4 of A together and hand them round by subgroupBroadcast: a load costs a
// branch per lane and element there, arithmetic next to nothing. 32 rows are 10-15 % faster than 16 and compile twice as
// long (0.8 s against 0.4 s); a K unrolled by 8 is slower.
// Dispatch: BATCH * ceil(M / ROWS) * ceil(N / COLS) workgroups of 8, columns fastest.
// Numerics: one chain of f32 fma over k = 0 ... K - 1 an element, of one product and then the other, so the result does not
// depend on the tiling.

// 16 rows of the lane's four columns of C, each matrix a list of 4 rows.
struct Rows16 {
  r0: mat4x4f,
  r4: mat4x4f,
  r8: mat4x4f,
  r12: mat4x4f,
}

// The lane's half (0 or 1) of the 16 x 4 block at A[row, k]: row + 8 half + lane or, where A is stored transposed, four
// rows of k + 2 half + lane / 4. Elements beyond K are 0, so that whatever they meet in B adds nothing.
fn block_a(which: u32, base: u32, row: u32, k: u32, lane: u32, half: u32) -> vec4f {
  let inner = inner_of(which);
  if (TRANSPOSE_A) {
    let column = k + 2u * half + lane / 4u;
    let m = inside(row + lane % 4u * 4u, numbers.M);
    return select(vec4f(), read_a4(which, base + min(column, inner - 1u) * numbers.M + m, valid(m, numbers.M)), column < inner);
  }
  return read_a4(which, base + min(row + 8u * half + lane, numbers.M - 1u) * inner + k, valid(k, inner));
}

// c + a b for four rows; a comes as rows or, where A is stored transposed, as columns.
fn product4(a: mat4x4f, b: mat4x4f, c: mat4x4f) -> mat4x4f {
  var rows = a;
  if (TRANSPOSE_A) { rows = transpose(a); }
  return product(rows, b, c);
}

// c + a b for 16 rows, whose block of A the lanes hold together in x and y.
fn product16(x: vec4f, y: vec4f, b: mat4x4f, c: Rows16) -> Rows16 {
  let x0 = subgroupBroadcast(x, 0u);
  let x1 = subgroupBroadcast(x, 1u);
  let x2 = subgroupBroadcast(x, 2u);
  let x3 = subgroupBroadcast(x, 3u);
  let x4 = subgroupBroadcast(x, 4u);
  let x5 = subgroupBroadcast(x, 5u);
  let x6 = subgroupBroadcast(x, 6u);
  let x7 = subgroupBroadcast(x, 7u);
  let y0 = subgroupBroadcast(y, 0u);
  let y1 = subgroupBroadcast(y, 1u);
  let y2 = subgroupBroadcast(y, 2u);
  let y3 = subgroupBroadcast(y, 3u);
  let y4 = subgroupBroadcast(y, 4u);
  let y5 = subgroupBroadcast(y, 5u);
  let y6 = subgroupBroadcast(y, 6u);
  let y7 = subgroupBroadcast(y, 7u);
  if (TRANSPOSE_A) {
    return Rows16(
      product4(mat4x4f(x0, x4, y0, y4), b, c.r0),
      product4(mat4x4f(x1, x5, y1, y5), b, c.r4),
      product4(mat4x4f(x2, x6, y2, y6), b, c.r8),
      product4(mat4x4f(x3, x7, y3, y7), b, c.r12),
    );
  }
  return Rows16(
    product4(mat4x4f(x0, x1, x2, x3), b, c.r0),
    product4(mat4x4f(x4, x5, x6, x7), b, c.r4),
    product4(mat4x4f(y0, y1, y2, y3), b, c.r8),
    product4(mat4x4f(y4, y5, y6, y7), b, c.r12),
  );
}

// The lane's four rows of a block of A are summed by it and by lane ^ 4, each over half of k.
fn sum_of_rows(x: vec4f) -> vec4f {
  return x + subgroupShuffleXor(x, 4u);
}

// Every row moved up by one, `next` moved in.
fn shift4(c: mat4x4f, next: vec4f) -> mat4x4f {
  return mat4x4f(c[1], c[2], c[3], next);
}

fn shift16(c: Rows16, next: vec4f) -> Rows16 {
  return Rows16(shift4(c.r0, c.r4[0]), shift4(c.r4, c.r8[0]), shift4(c.r8, c.r12[0]), shift4(c.r12, next));
}

// What a lane has of a tile: four columns of its rows, and its part of the sums of A's rows.
struct Sums {
  upper: Rows16,
  lower: Rows16,
  upper_a: vec4f,
  lower_a: vec4f,
}

// Adds a product to a tile.
fn accumulate(which: u32, tile: Tile, lane: u32, c: ptr<function, Sums>) {
  let col = tile.col + lane * 4u;
  let base_a = tile.batch * numbers.A_BATCH_STRIDE;
  let base_b = tile.batch * numbers.B_BATCH_STRIDE;
  for (var k = 0u; k < inner_of(which); k += 4u) {
    let b = block_b(which, base_b, k, col);
    let x = block_a(which, base_a, tile.row, k, lane, 0u);
    let y = block_a(which, base_a, tile.row, k, lane, 1u);
    (*c).upper = product16(x, y, b, (*c).upper);
    if (SUMS) { (*c).upper_a += x + y; }
    if (ROWS == 32u) {
      let next_x = block_a(which, base_a, tile.row + 16u, k, lane, 0u);
      let next_y = block_a(which, base_a, tile.row + 16u, k, lane, 1u);
      (*c).lower = product16(next_x, next_y, b, (*c).lower);
      if (SUMS) { (*c).lower_a += next_x + next_y; }
    }
  }
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  let tile = tile_of(workgroup_index(w));
  if (tile.batch >= numbers.BATCH) { return; }
  var c = Sums();
  accumulate(0u, tile, lane, &c);
  if (PRODUCTS == 2u) { accumulate(1u, tile, lane, &c); }
  if (SUMS) {
    let upper = sum_of_rows(c.upper_a);
    let lower = sum_of_rows(c.lower_a);
    // The first tile of a row of tiles speaks for all.
    let m = tile.row + lane * 4u;
    if (tile.col == 0u && lane < 4u) {
      if (m < numbers.M) { store_second4(m, upper, valid(m, numbers.M)); }
      if (ROWS == 32u && m + 16u < numbers.M) { store_second4(m + 16u, lower, valid(m + 16u, numbers.M)); }
    }
  }
  let col = tile.col + lane * 4u;
  if (col >= numbers.N) { return; }
  // The rows move up through the registers past one store: the epilogue inlined for each row would compile slowly.
  let rows = min(ROWS, numbers.M - tile.row);
  for (var r = 0u; r < rows; r++) {
    store4((tile.batch * numbers.M + tile.row + r) * numbers.N + col, c.upper.r0[0], valid(col, numbers.N));
    c.upper = shift16(c.upper, c.lower.r0[0]);
    c.lower = shift16(c.lower, vec4f());
  }
}
