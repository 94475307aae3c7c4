// Blocks of B straight from memory, whatever its extents.
// Contract: number N, TRANSPOSE_B; inner_of, read_b4 of lib/matmul-one.wgsl or lib/matmul-two.wgsl.
// How many of the 4 elements from `start` on lie inside `extent`.
fn valid(start: u32, extent: u32) -> u32 {
  return min(4u, extent - start);
}

// Moves a vector that begins beyond `extent` back inside: what is computed from it is never stored.
fn inside(start: u32, extent: u32) -> u32 {
  return min(start, (extent - 1u) / 4u * 4u);
}

// Rows k ... k + 3 of columns col ... col + 3 of the B of a product.
fn block_b(which: u32, base: u32, k: u32, col: u32) -> mat4x4f {
  let inner = inner_of(which);
  if (TRANSPOSE_B) {
    let i = base + min(col + vec4u(0u, 1u, 2u, 3u), vec4u(numbers.N - 1u)) * inner + k;
    let n = valid(k, inner);
    return transpose(mat4x4f(read_b4(which, i.x, n), read_b4(which, i.y, n), read_b4(which, i.z, n), read_b4(which, i.w, n)));
  }
  let c = inside(col, numbers.N);
  let i = base + min(k + vec4u(0u, 1u, 2u, 3u), vec4u(inner - 1u)) * numbers.N + c;
  let n = valid(c, numbers.N);
  return mat4x4f(read_b4(which, i.x, n), read_b4(which, i.y, n), read_b4(which, i.z, n), read_b4(which, i.w, n));
}
