// What every invocation goes through (keys and values, or queries and gradients) comes in tiles of SPAN tokens to workgroup
// memory (tiled family): two tiles of vec4 columns, which fit in the 16 KiB that every adapter has.
// Contract: first4 and second4 read the two operands.
const SPAN = max(1u, min(16u, 480u / DEPTH4));

var<workgroup> first_tile: array<vec4f, SPAN * DEPTH4>;
var<workgroup> second_tile: array<vec4f, SPAN * DEPTH4>;

// To be called by the whole workgroup.
fn bring(base: u32, tile: u32, lane: u32) {
  workgroupBarrier();
  for (var i = lane; i < SPAN * DEPTH4; i += ROWS) {
    let c = i % DEPTH4;
    let at = met_row(base, tile + i / DEPTH4) + 4u * c;
    first_tile[i] = first4(at, valid(c));
    second_tile[i] = second4(at, valid(c));
  }
  workgroupBarrier();
}

// Column c of token tile + t.
fn first_of(base: u32, tile: u32, t: u32, c: u32) -> vec4f {
  return first_tile[t * DEPTH4 + c];
}

fn second_of(base: u32, tile: u32, t: u32, c: u32) -> vec4f {
  return second_tile[t * DEPTH4 + c];
}
