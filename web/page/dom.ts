type Child = Node | string | false | null | undefined;

/**
 * An element with attributes and children; an attribute that is `true` stands without a value, one that is false or
 * undefined is left out, `on…` listens.
 */
export function h<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Record<string, string | number | boolean | undefined | ((event: Event) => void)> = {},
  ...children: Child[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  set(element, attributes);
  element.append(...children.filter((child): child is Node | string => typeof child === 'string' || !!child));
  return element;
}

/** The same of SVG. */
export function svg<Name extends keyof SVGElementTagNameMap>(
  name: Name,
  attributes: Record<string, string | number | boolean | undefined | ((event: Event) => void)> = {},
  ...children: Node[]
): SVGElementTagNameMap[Name] {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  set(element, attributes);
  element.append(...children);
  return element;
}

function set(
  element: Element,
  attributes: Record<string, string | number | boolean | undefined | ((event: Event) => void)>,
): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? '' : String(value));
  }
}

/** A labelled control. */
export const field = (label: string, control: HTMLElement, hint?: string): HTMLLabelElement =>
  h('label', { class: 'field' }, h('span', {}, label), control, hint && h('small', {}, hint));

/** A choice of values with their names. */
export function choice(
  options: readonly (readonly [value: string, name: string])[],
  value: string,
  onChange: (value: string) => void,
): HTMLSelectElement {
  const select = h('select', { onchange: () => onChange(select.value) });
  select.append(...options.map(([own, name]) => h('option', { value: own, selected: own === value }, name)));
  return select;
}

/** A number to type or step. */
export function number(
  value: number,
  bounds: { min: number; max: number; step?: number },
  onChange: (value: number) => void,
): HTMLInputElement {
  const input = h('input', {
    type: 'number',
    value,
    ...bounds,
    onchange: () => {
      if (input.validity.valid && input.value !== '') onChange(input.valueAsNumber);
      else input.reportValidity();
    },
  });
  return input;
}
