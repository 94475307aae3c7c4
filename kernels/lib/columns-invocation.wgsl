// One invocation for 4 columns (plain family): nothing to share.
const LANES = 1u;

fn across(invocation: u32, x: vec4f) -> vec4f {
  return x;
}
