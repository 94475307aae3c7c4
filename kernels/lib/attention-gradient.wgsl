// What the gradients of attention share (FlashAttention-2, Dao 2023): p = exp(SCALE * q . k - lse) is computed again, and
// ds = p * (g . v - delta), where delta is the row sum of the gradient g times the output.
// Contract: load_lse1 [BATCH, HEADS, QUERIES], load_delta1 [BATCH, QUERIES, HEADS].

// lse and delta of a query; queries beyond the last repeat it.
fn row_terms(head: u32, token: u32) -> vec2f {
  let t = min(token, QUERIES - 1u);
  return vec2f(load_lse1(head * QUERIES + t), load_delta1((head / HEADS * QUERIES + t) * HEADS + head % HEADS));
}
