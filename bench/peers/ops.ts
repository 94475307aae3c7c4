// What a peer must be able to do for the cases and networks: each peer implements it with its own best operations, and
// float64.ts with plain loops as the reference.

/** Images are in the layout that the engine prefers; `images` and `pixels` convert from and to [N, H, W, C]. */
export interface Ops<T> {
  /** x [..., K] times w [K, N], or two stacks of matrices. */
  matmul(x: T, w: T): T;
  /** With trailing dimensions broadcast. */
  add(x: T, y: T): T;
  mul(x: T, y: T): T;
  /** x + k */
  offset(x: T, k: number): T;
  silu(x: T): T;
  /** GELU by its tanh formula. */
  gelu(x: T): T;
  /** Over the last dimension. */
  softmax(x: T): T;
  /** Over the last dimension, epsilon 1e-5, without scale and shift. */
  layerNorm(x: T): T;
  /** q, k, v [B, S, heads * d]; scores are divided by the root of d. */
  attention(q: T, k: T, v: T, heads: number): T;
  reshape(x: T, shape: number[]): T;
  /** Equal parts of the last dimension. */
  split(x: T, parts: number): T[];
  images(x: T): T;
  pixels(x: T): T;
  /** x with w [3, 3, in, out] or [1, 1, in, out] (converted by `filter`), padded so that stride 1 keeps the size. */
  conv(x: T, w: T, stride: number): T;
  filter(w: T): T;
  /** Adds v [N, C] or [C] to each pixel. */
  addToChannels(x: T, v: T): T;
  /** Epsilon 1e-5, without scale and shift. */
  groupNorm(x: T, groups: number): T;
  /** Twice the size, nearest. */
  upsample(x: T): T;
  concatChannels(x: T, y: T): T;
  /** Images as [N, H * W, C], and back. */
  tokens(x: T): T;
  fromTokens(x: T, like: T): T;
  meanSquare(x: T, y: T): T;
}
