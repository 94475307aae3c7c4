// Attention for adapters whose subgroups have exactly 8 lanes, LANES of them a workgroup: how lanes share out a head.
const LANES = 8u;
// Lanes side by side over the vec4 columns of a head; with less than 8 the rest of the lanes share out the tokens.
const COLUMNS = select(select(select(1u, 2u, DEPTH4 > 1u), 4u, DEPTH4 > 2u), LANES, DEPTH4 > 4u);
const PARTS = LANES / COLUMNS;
const CHUNKS = (DEPTH4 + LANES - 1u) / LANES;
const LOG2E = 1.4426950408889634;

// a · b + c, b given by its rows: four fma chains.
fn madd(a: vec4f, b: mat4x4f, c: vec4f) -> vec4f {
  return fma(vec4f(a.w), b[3], fma(vec4f(a.z), b[2], fma(vec4f(a.y), b[1], fma(vec4f(a.x), b[0], c))));
}

// The sum over the lanes that hold parts of one column.
fn across_parts(x: vec4f) -> vec4f {
  var sum = x;
  for (var step = COLUMNS; step < LANES; step *= 2u) { sum += subgroupShuffleXor(sum, step); }
  return sum;
}
