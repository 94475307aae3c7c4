// Blocks of B straight from memory, whatever its extents.
// Contract: numbers K, N, TRANSPOSE_B; load_b4 reads.
// How many of the 4 elements from `start` on lie inside `extent`.
fn valid(start: u32, extent: u32) -> u32 {
  return min(4u, extent - start);
}

// Moves a vector that begins beyond `extent` back inside: what is computed from it is never stored.
fn inside(start: u32, extent: u32) -> u32 {
  return min(start, (extent - 1u) / 4u * 4u);
}

// Rows k ... k + 3 of columns col ... col + 3 of B.
fn block_b(base: u32, k: u32, col: u32) -> mat4x4f {
  if (TRANSPOSE_B) {
    let i = base + min(col + vec4u(0u, 1u, 2u, 3u), vec4u(numbers.N - 1u)) * numbers.K + k;
    let n = valid(k, numbers.K);
    return transpose(mat4x4f(load_b4(i.x, n), load_b4(i.y, n), load_b4(i.z, n), load_b4(i.w, n)));
  }
  let c = inside(col, numbers.N);
  let i = base + min(k + vec4u(0u, 1u, 2u, 3u), vec4u(numbers.K - 1u)) * numbers.N + c;
  let n = valid(c, numbers.N);
  return mat4x4f(load_b4(i.x, n), load_b4(i.y, n), load_b4(i.z, n), load_b4(i.w, n));
}
