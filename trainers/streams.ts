/** Random streams of a training step. Numbers drawn for one purpose never depend on what else is drawn. */
export const streams = {
  data: 0,
  noise: 1,
  source: 2,
  times: 3,
  end: 4,
  epsilon: 5,
  fraction: 6,
  dropout: 8,
  guidance: 9,
  forward: 10,
  gap: 11,
} as const;
