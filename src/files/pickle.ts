import { UserError } from '../errors.js';

/** The name of something in Python, never looked up: `collections.OrderedDict`. */
export class Global {
  constructor(readonly name: string) {}
}

/**
 * An object that Python would make by calling something. Nothing is called here: it is a record of what was asked for,
 * which those who know the name may read, and which is inert to all others.
 */
export class Made {
  /** What its `__setstate__` would get. */
  state: unknown = undefined;
  /** What would be appended to it. */
  readonly items: unknown[] = [];
  /** What would be set in it. */
  readonly entries = new Map<unknown, unknown>();
  constructor(
    readonly of: unknown,
    readonly args: unknown,
  ) {}

  /** The name of what would be called. */
  get name(): string {
    return this.of instanceof Global ? this.of.name : '?';
  }
}

/** What stands outside of the pickle, such as a tensor's storage. */
export class Outside {
  constructor(readonly id: unknown) {}
}

const mark = Symbol('mark');

/** Most that is put on the stack or remembered; each takes at least a byte of the pickle, so this bounds its length. */
const longestPickle = 2 ** 28;

/**
 * Reads a pickle of protocol 0 to 5 (PEP 3154, `pickletools`) as plain data: numbers, texts, bytes (Uint8Array), arrays
 * for lists and tuples, Maps, Sets, and records of everything else. Nothing is ever executed or looked up by name.
 * @returns the value, and where the pickle ends
 * @throws UserError where it is damaged, cut off, or asks for what only a running Python has
 */
export function readPickle(bytes: Uint8Array, name: string, start = 0): { value: unknown; end: number } {
  const damaged = (what: string): UserError =>
    new UserError(`${name}: ${what}: the pickle in it is damaged or cut off; fetch it again`);
  if (bytes.length > longestPickle)
    throw new UserError(`${name}: a pickle of ${bytes.length} bytes is no index of tensors`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: unknown[] = [];
  const memo = new Map<number, unknown>();
  let at = start;
  const take = (length: number): number => {
    if (!Number.isSafeInteger(length) || length < 0 || at + length > bytes.length) throw damaged('it ends early');
    at += length;
    return at - length;
  };
  const byte = () => bytes[take(1)];
  const uint16 = () => view.getUint16(take(2), true);
  const uint32 = () => view.getUint32(take(4), true);
  const uint64 = () => Number(view.getBigUint64(take(8), true));
  const raw = (length: number) => {
    const from = take(length);
    return bytes.slice(from, from + length);
  };
  const utf8 = (length: number) => new TextDecoder().decode(raw(length));
  // Byte for byte, as Python 2 kept its arrays; the decoder of this name would take some of them for quotes.
  const latin = (length: number) => {
    const [from, parts] = [take(length), [] as string[]];
    for (let part = from; part < at; part += 8192)
      parts.push(String.fromCharCode(...bytes.subarray(part, Math.min(part + 8192, at))));
    return parts.join('');
  };
  const line = () => {
    const end = bytes.indexOf(10, at);
    if (end < 0) throw damaged('it ends early');
    const text = new TextDecoder().decode(bytes.subarray(at, end));
    at = end + 1;
    return text.replace(/\r$/, '');
  };
  const pop = (): unknown => {
    if (!stack.length || stack.at(-1) === mark) throw damaged('its stack is empty');
    return stack.pop();
  };
  const top = (): unknown => {
    if (!stack.length || stack.at(-1) === mark) throw damaged('its stack is empty');
    return stack.at(-1);
  };
  const toMark = (): unknown[] => {
    const from = stack.lastIndexOf(mark);
    if (from < 0) throw damaged('a mark is missing');
    const items = stack.splice(from);
    return items.slice(1);
  };
  const set = (holder: unknown, pairs: unknown[]) => {
    if (pairs.length % 2) throw damaged('a key has no value');
    const entries = holder instanceof Map ? holder : holder instanceof Made ? holder.entries : null;
    if (!entries) throw damaged('entries are set in what has none');
    for (let i = 0; i < pairs.length; i += 2) entries.set(pairs[i], pairs[i + 1]);
  };
  const append = (holder: unknown, items: readonly unknown[]) => {
    const list = Array.isArray(holder) ? holder : holder instanceof Made ? holder.items : null;
    if (!list) throw damaged('something is appended to what is no list');
    for (const item of items) list.push(item);
  };
  const add = (holder: unknown, items: readonly unknown[]) => {
    if (holder instanceof Made) return append(holder, items);
    if (!(holder instanceof Set)) throw damaged('something is added to what is no set');
    for (const item of items) holder.add(item);
  };
  const remembered = (index: number): unknown => {
    if (!memo.has(index)) throw damaged('it refers to what it did not remember');
    return memo.get(index);
  };
  const number = (text: string): unknown => {
    if (text === '00' || text === '01') return text === '01';
    if (!/^[-+]?\d{1,400}L?$/.test(text)) throw damaged('a number is none');
    return small(BigInt(text.replace(/L$/, '').replace(/^\+/, '')));
  };
  const long = (length: number): unknown => {
    if (length > 1024) throw damaged('a number has more than 8192 bits');
    let value = 0n;
    const digits = raw(length);
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(digits[i]);
    return small(length && digits[length - 1] & 0x80 ? value - (1n << BigInt(8 * length)) : value);
  };
  const small = (value: bigint): number | bigint =>
    value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  const globalOf = (module: unknown, attribute: unknown) => {
    if (typeof module !== 'string' || typeof attribute !== 'string') throw damaged('a name is no text');
    return new Global(`${module}.${attribute}`);
  };

  const operations: Record<string, () => void> = {
    '(': () => stack.push(mark),
    '0': () => (stack.at(-1) === mark ? void stack.pop() : void pop()),
    '1': () => void toMark(),
    '2': () => stack.push(top()),
    N: () => stack.push(null),
    '\x88': () => stack.push(true),
    '\x89': () => stack.push(false),
    I: () => stack.push(number(line())),
    J: () => stack.push(view.getInt32(take(4), true)),
    K: () => stack.push(byte()),
    M: () => stack.push(uint16()),
    L: () => stack.push(number(line())),
    '\x8a': () => stack.push(long(byte())),
    '\x8b': () => stack.push(long(uint32())),
    F: () => stack.push(Number(line())),
    G: () => stack.push(view.getFloat64(take(8))),
    S: () => stack.push(line().replace(/^(['"])(.*)\1$/, '$2')),
    T: () => stack.push(latin(uint32())),
    U: () => stack.push(latin(byte())),
    V: () => stack.push(line()),
    X: () => stack.push(utf8(uint32())),
    '\x8c': () => stack.push(utf8(byte())),
    '\x8d': () => stack.push(utf8(uint64())),
    B: () => stack.push(raw(uint32())),
    C: () => stack.push(raw(byte())),
    '\x8e': () => stack.push(raw(uint64())),
    '\x96': () => stack.push(raw(uint64())),
    ']': () => stack.push([]),
    a: () => {
      const item = pop();
      append(top(), [item]);
    },
    e: () => {
      const items = toMark();
      append(top(), items);
    },
    l: () => stack.push(toMark()),
    ')': () => stack.push([]),
    t: () => stack.push(toMark()),
    '\x85': () => stack.push([pop()]),
    '\x86': () => stack.push([pop(), pop()].reverse()),
    '\x87': () => stack.push([pop(), pop(), pop()].reverse()),
    '}': () => stack.push(new Map()),
    d: () => {
      const pairs = toMark();
      stack.push(new Map());
      set(top(), pairs);
    },
    s: () => {
      const value = pop();
      const key = pop();
      set(top(), [key, value]);
    },
    u: () => {
      const pairs = toMark();
      set(top(), pairs);
    },
    '\x8f': () => stack.push(new Set()),
    '\x90': () => {
      const items = toMark();
      add(top(), items);
    },
    '\x91': () => stack.push(new Set(toMark())),
    c: () => {
      const module = line();
      stack.push(globalOf(module, line()));
    },
    '\x93': () => {
      const attribute = pop();
      stack.push(globalOf(pop(), attribute));
    },
    R: () => {
      const args = pop();
      stack.push(new Made(pop(), args));
    },
    b: () => {
      const state = pop();
      const object = top();
      if (!(object instanceof Made)) throw damaged('a state is set in what has none');
      object.state = state;
    },
    i: () => {
      const module = line();
      const made = globalOf(module, line());
      stack.push(new Made(made, toMark()));
    },
    o: () => {
      const [of, ...args] = toMark();
      stack.push(new Made(of, args));
    },
    '\x81': () => {
      const args = pop();
      stack.push(new Made(pop(), args));
    },
    '\x92': () => {
      const named = pop();
      const args = pop();
      stack.push(new Made(pop(), [args, named]));
    },
    P: () => stack.push(new Outside(line())),
    Q: () => stack.push(new Outside(pop())),
    g: () => stack.push(remembered(Number(line()))),
    h: () => stack.push(remembered(byte())),
    j: () => stack.push(remembered(uint32())),
    p: () => memo.set(Number(line()), top()),
    q: () => memo.set(byte(), top()),
    r: () => memo.set(uint32(), top()),
    '\x94': () => memo.set(memo.size, top()),
    '\x80': () => {
      const protocol = byte();
      if (protocol > 5) throw damaged(`its protocol is ${protocol}`);
    },
    '\x95': () => void take(8),
  };
  for (;;) {
    const code = String.fromCharCode(byte());
    if (code === '.') return { value: pop(), end: at };
    const operation = Object.hasOwn(operations, code) ? operations[code] : null;
    if (!operation) throw damaged(`it has no operation ${JSON.stringify(code)}`);
    operation();
  }
}
