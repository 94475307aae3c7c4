// LANES invocations for 4 columns (tiled family), WIDTH apart: a tree in workgroup memory, fixed order. All invocations must
// call `across`, whose result counts for the first lane.
var<workgroup> partial: array<vec4f, 64>;

fn across(invocation: u32, x: vec4f) -> vec4f {
  partial[invocation] = x;
  workgroupBarrier();
  for (var half = LANES / 2u; half > 0u; half >>= 1u) {
    if (invocation / WIDTH < half) { partial[invocation] = joined(partial[invocation], partial[invocation + half * WIDTH]); }
    workgroupBarrier();
  }
  return partial[invocation];
}
