import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright-core';

const script = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** What axe-core finds that is serious or worse on a page as it is shown now, a line each. */
export async function seriousFaults(page: Page): Promise<string[]> {
  await page.evaluate(script);
  const found = await page.evaluate(async () => {
    const { axe } = self as unknown as { axe: { run(): Promise<{ violations: Violation[] }> } };
    return (await axe.run()).violations.map(({ id, impact, nodes }) => ({
      id,
      impact,
      where: nodes.map(({ html }) => html.slice(0, 160)),
    }));
  });
  return found
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .flatMap(({ id, where }) => where.map((html) => `${id}: ${html}`));
}

interface Violation {
  id: string;
  impact: string | null;
  nodes: { html: string }[];
}
