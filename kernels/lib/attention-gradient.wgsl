// What the gradients of attention share (FlashAttention-2, Dao 2023): p = exp(SCALE * q . k - lse) is computed again, and
// ds = p * (g . v - delta), where delta is the row sum of the gradient g times the output. The gradient of the queries
// computes delta, that of keys and values reads it.
// Contract: load_lse1 [BATCH, HEADS, QUERIES].

// Where the numbers of a query are; queries beyond the last repeat it.
fn terms_at(head: u32, token: u32) -> u32 {
  return head * QUERIES + min(token, QUERIES - 1u);
}
