// The columns of [OUTER, LENGTH, INNER] that an invocation sums up, or takes the maximum of, over the middle axis: 4 side by
// side, every LANES-th row. An invocation beyond the last has `inside` false.
const WIDTH = 64u / LANES;

struct Columns { inside: bool, lane: u32, outer: u32, column: u32, n: u32 }

fn columns_of(group: u32, invocation: u32) -> Columns {
  let at = group * WIDTH + invocation % WIDTH;
  let groups = (numbers.INNER + 3u) / 4u;
  let column = at % groups * 4u;
  let outer = at / groups;
  return Columns(outer < numbers.OUTER, invocation / WIDTH, outer, column, min(4u, numbers.INNER - column));
}

// Where their elements of a row begin.
fn in_row(c: Columns, row: u32) -> u32 {
  return (c.outer * numbers.LENGTH + row) * numbers.INNER + c.column;
}

fn nothing() -> vec4f {
  return vec4f(select(0.0, -3.4028234e38, MAXIMUM));
}

fn joined(a: vec4f, b: vec4f) -> vec4f {
  return select(a + b, max(a, b), MAXIMUM);
}
