/** Which lines of a long list are drawn, and how much room the others take. */
export interface Window {
  first: number;
  last: number;
  before: number;
  after: number;
}

/**
 * Choose the lines to draw.
 *
 * @param heights - of each line, in pixels
 * @param top - how far the list is scrolled
 * @param height - how much of it is seen
 * @param spare - how much is drawn above and below, so that scrolling shows no gaps
 */
export function visible(heights: readonly number[], top: number, height: number, spare = 300): Window {
  let first = 0;
  let before = 0;
  while (first < heights.length && before + (heights[first] ?? 0) < top - spare) {
    before += heights[first] ?? 0;
    first += 1;
  }
  let last = first;
  let end = before;
  while (last < heights.length && end < top + height + spare) {
    end += heights[last] ?? 0;
    last += 1;
  }
  const total = heights.reduce((sum, one) => sum + one, 0);
  return { first, last, before, after: total - end };
}
