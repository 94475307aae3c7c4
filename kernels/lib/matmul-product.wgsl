// Products of blocks in registers: one chain of fma over k for each element.
fn row_product(a: vec4f, b: mat4x4f, c: vec4f) -> vec4f {
  return fma(vec4f(a.w), b[3], fma(vec4f(a.z), b[2], fma(vec4f(a.y), b[1], fma(vec4f(a.x), b[0], c))));
}

// c + a b, each matrix a list of 4 rows.
fn product(a: mat4x4f, b: mat4x4f, c: mat4x4f) -> mat4x4f {
  return mat4x4f(
    row_product(a[0], b, c[0]),
    row_product(a[1], b, c[1]),
    row_product(a[2], b, c[2]),
    row_product(a[3], b, c[3]),
  );
}
