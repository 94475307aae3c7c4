import { h } from './dom.js';

const key = 'semiflow-theme';
const dark = matchMedia('(prefers-color-scheme: dark)');

/** Whether the page is dark now. */
export const isDark = (): boolean =>
  document.documentElement.dataset.theme ? document.documentElement.dataset.theme === 'dark' : dark.matches;

/**
 * Light or dark: as the system has it until somebody chooses here.
 * @param onChange draws anew what was drawn in colours of its own
 */
export function themeButton(button: HTMLElement, onChange: () => void): void {
  const stored = localStorage.getItem(key);
  if (stored === 'dark' || stored === 'light') document.documentElement.dataset.theme = stored;
  const show = () => {
    const other = isDark() ? 'light' : 'dark';
    button.replaceChildren(h('span', { 'aria-hidden': 'true' }, isDark() ? '☀' : '☾'));
    button.setAttribute('aria-label', `Use ${other} colours`);
  };
  const changed = () => {
    show();
    onChange();
  };
  button.addEventListener('click', () => {
    document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
    localStorage.setItem(key, document.documentElement.dataset.theme);
    changed();
  });
  dark.addEventListener('change', changed);
  show();
}
