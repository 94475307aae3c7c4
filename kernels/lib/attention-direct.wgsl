// What every invocation goes through (keys and values, or queries and gradients) is read where it lies (plain family
// without subgroups): one tile of all tokens.
// Contract: first4 and second4 read the two operands.
const SPAN = MET;

fn bring(base: u32, tile: u32, lane: u32) {}

// Column c of token tile + t.
fn first_of(base: u32, tile: u32, t: u32, c: u32) -> vec4f {
  return first4(met_row(base, tile + t) + 4u * c, valid(c));
}

fn second_of(base: u32, tile: u32, t: u32, c: u32) -> vec4f {
  return second4(met_row(base, tile + t) + 4u * c, valid(c));
}
