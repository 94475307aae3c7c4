// What the gradients of attention share (FlashAttention-2, Dao 2023): p = exp(SCALE * q . k - lse) is computed again, and
// ds = p * (g . v - delta), where delta is the row sum of the gradient g times the output.
// Contract: load_lse1 [BATCH, HEADS, TOKENS], load_delta1 [BATCH, TOKENS, HEADS].

// lse and delta of a query; queries beyond the last repeat it.
fn row_terms(head: u32, token: u32) -> vec2f {
  let t = min(token, TOKENS - 1u);
  return vec2f(load_lse1(head * TOKENS + t), load_delta1((head / HEADS * TOKENS + t) * HEADS + head % HEADS));
}
