/**
 * The first key that an object of this JSON text names twice, if any: JSON.parse keeps the last one silently, so two
 * readers of one file could see different tensors.
 * @param text valid JSON
 */
export function duplicateKey(text: string): string | undefined {
  // An open array stands as null: strings inside it are values.
  const open: (Set<string> | null)[] = [];
  let expectsKey = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '{' || character === '[') {
      open.push(character === '{' ? new Set() : null);
      expectsKey = character === '{';
    } else if (character === '}' || character === ']') {
      open.pop();
    } else if (character === ',') {
      expectsKey = open.at(-1) !== null;
    } else if (character === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      const keys = open.at(-1);
      if (!expectsKey || !keys) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (keys.has(key)) return key;
      keys.add(key);
      expectsKey = false;
    }
  }
  return undefined;
}
