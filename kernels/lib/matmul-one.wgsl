// What a product multiplies: A and B.
// Contract: number K; load_a4, load_b4 read.
const PRODUCTS = 1u;

fn inner_of(which: u32) -> u32 { return numbers.K; }

fn read_a4(which: u32, i: u32, n: u32) -> vec4f { return load_a4(i, n); }

fn read_b4(which: u32, i: u32, n: u32) -> vec4f { return load_b4(i, n); }
