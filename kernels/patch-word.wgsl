// Writes some bytes of one word and leaves the others: the host's writes of u8 and f16 may begin or end within a word.
// Contract: words, in which the word lies; edit = (index, mask, bytes in their place, 0).
// Dispatch: 1 workgroup of 1.
// Numerics: bits.
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@group(0) @binding(1) var<storage, read_write> edit: vec4u;
@compute @workgroup_size(1)
fn main() {
  words[edit.x] = (words[edit.x] & ~edit.y) | edit.z;
}
