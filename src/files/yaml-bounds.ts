/** Deepest nesting of a configuration that is read; ours have four levels. */
const deepest = 100;
/** Most lines, most signs of structure in one, and most anchors and tags in all. */
const [mostLines, mostInLine, mostMarks] = [10_000, 1000, 1000];

/**
 * Whether a YAML text is of a size and shape that a configuration has. Parsers descend a level a call and take time that
 * grows with the square of the mistakes, so that a few kilobytes of brackets, dashes or anchors end the process or keep it
 * for minutes; this looks at each character once. What stands in quotes counts as well.
 * @returns what is too much of it; null where all is well
 */
export function excessOf(text: string): string | null {
  let [brackets, indent, leading, lines, inLine, marks] = [0, 0, true, 0, 0, 0];
  for (const character of text) {
    if (character === '\n') {
      [indent, leading, inLine] = [0, true, 0];
      if (++lines > mostLines) return 'it has more lines than any configuration';
      continue;
    }
    if (character === '[' || character === '{') brackets++;
    else if ((character === ']' || character === '}') && brackets) brackets--;
    if (character === '&' || character === '!') marks++;
    if ('&!*?:-"\''.includes(character)) inLine++;
    if (leading && ' \t-?:'.includes(character)) indent++;
    else leading = false;
    if (brackets > deepest || indent > 2 * deepest) return 'it nests deeper than any configuration does';
    if (inLine > mostInLine || marks > mostMarks) return 'it has more anchors, tags or keys than any configuration';
  }
  return null;
}

/** Whether a tree contains itself, as aliases of YAML can make it. */
export function containsItself(tree: unknown): boolean {
  const [inside, seen] = [new Set<unknown>(), new Set<unknown>()];
  const enter = (value: unknown): boolean => {
    if (typeof value !== 'object' || value === null) return false;
    if (inside.has(value)) return true;
    if (seen.has(value)) return false;
    seen.add(value);
    inside.add(value);
    const found = Object.values(value).some(enter);
    inside.delete(value);
    return found;
  };
  return enter(tree);
}
