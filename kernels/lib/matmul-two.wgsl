// What two products multiply whose sum is wanted, A B + C D: A and B, then C and D, stored alike. Where `which` is a literal
// nothing of the choice is left in a compiled kernel.
// Contract: numbers K, K2; load_a4, load_b4, load_c4, load_d4 read.
const PRODUCTS = 2u;

fn inner_of(which: u32) -> u32 {
  if (which == 0u) { return numbers.K; }
  return numbers.K2;
}

fn read_a4(which: u32, i: u32, n: u32) -> vec4f {
  if (which == 0u) { return load_a4(i, n); }
  return load_c4(i, n);
}

fn read_b4(which: u32, i: u32, n: u32) -> vec4f {
  if (which == 0u) { return load_b4(i, n); }
  return load_d4(i, n);
}
