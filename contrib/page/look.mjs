// Has a browser look at pages, as a person would: TestPageInBrowser gives the plan on standard input. What it finds wrong ends it with
// an error. Its last line says what it saw.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const plan = JSON.parse(readFileSync(0, 'utf8'));
const require = createRequire(join(plan.modules, 'package.json'));
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const patience = 20000;
const sizes = [{ width: 1600, height: 1000 }, { width: 390, height: 844 }];
const schemes = ['light', 'dark'];
const result = { views: 0, screenshots: 0, axe_serious: 0, first_paint_ms: 0, kb: 0 };

function check(holds, ...what) {
  if (!holds) throw new Error(what.join(' '));
}

// What each tab that is open can tell: why it does not show what is waited for.
const tabs = new Set();

// A tab that fails on anything a person would not see: errors, what the policy forbids, and what is asked of others.
async function open(browser, cluster, size, colorScheme) {
  const httpCredentials = cluster.name === 'real' ? { username: 'any', password: plan.password } : undefined;
  const context = await browser.newContext({ viewport: size, colorScheme, httpCredentials, reducedMotion: 'reduce' });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  const wrong = [], failed = [], asked = new Set();
  const tell = () => console.error([`${page.url()}, as a step failed:`, ...wrong, ...failed, ...[...asked].map((request) => `no answer yet: ${request.url()}`)].join('\n  '));
  tabs.add(tell);
  page.on('request', (request) => asked.add(request));
  page.on('requestfinished', (request) => asked.delete(request));
  page.on('requestfailed', (request) => { asked.delete(request); failed.push(`${request.url()}: ${request.failure().errorText}`); });
  page.on('pageerror', (error) => wrong.push(error.message));
  page.on('console', (message) => { if (message.type() === 'error') wrong.push(message.text()); });
  page.on('request', (request) => { if (!request.url().startsWith(`${cluster.url}/`)) wrong.push(`asked for ${request.url()}`); });
  page.on('response', async (response) => {
    const text = await response.text().catch(() => '');
    if (plan.secrets.some((secret) => text.includes(secret))) wrong.push(`${response.url()} tells a secret`);
  });
  await page.goto(`${cluster.url}/`);
  await page.locator('main[data-ready]').waitFor();
  return { page, close: async () => { await context.close(); tabs.delete(tell); check(!wrong.length, cluster.name, wrong.join('\n')); } };
}

// until waits for a function in the page to be true.
const until = (page, what, test, argument) => page.waitForFunction(test, argument).catch(() => { throw new Error(`${page.url()}: never ${what}`); });

// looked is done with each view once it shows what it is to.
async function looked(page, name) {
  result.views++;
  const { width, scroll } = await page.evaluate(() => ({ width: innerWidth, scroll: document.documentElement.scrollWidth }));
  check(scroll <= width, name, 'is', scroll, 'wide on', width);
  const faults = await page.evaluate(async () => (await globalThis.axe.run(document, { resultTypes: ['violations'] })).violations);
  for (const { id, impact, nodes } of faults) {
    if (impact !== 'serious' && impact !== 'critical') continue;
    result.axe_serious++;
    console.error(`${name}: ${id}, ${impact}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join('\n')}`);
  }
  await shot(page, name);
}

async function shot(page, name) {
  if (!plan.shots) return;
  await page.screenshot({ path: join(plan.shots, `${name}.png`) });
  result.screenshots++;
}

const rows = (page, section) => page.locator(`section[aria-labelledby="title-${section}"] tbody tr:visible`);

async function view(page, title) {
  await page.getByRole('navigation').getByRole('link', { name: title }).click();
  await page.getByRole('heading', { level: 2, name: title.replace(/ \(.*/, '') }).waitFor();
}

async function seeHosts(page, cluster) {
  await view(page, 'Hosts');
  await until(page, 'all hosts in the picture', (count) => document.querySelectorAll('.picture .node').length === count, cluster.hosts);
  await until(page, 'a chart', () => document.querySelector('section:not([hidden]) .plot canvas'));
  if (cluster.hosts === 1) return;
  await until(page, 'traffic on a line', () => document.querySelector('.picture .link.busy'));
  const picture = page.getByRole('img', { name: 'This host and' });
  const told = await picture.getAttribute('aria-label');
  check(/most traffic with \w+/.test(told), 'the picture says', told);
  // A host by its name in the table, by the keyboard; the picture by the mouse is the same.
  const other = page.getByRole('table', { name: 'Hosts' }).getByRole('row').nth(2).getByRole('button');
  const name = await other.textContent();
  await other.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('region', { name: 'The host that is chosen' }).getByRole('heading', { name }).waitFor();
  check(await other.getAttribute('aria-pressed') === 'true', name, 'is not pressed');
  const chip = page.getByRole('group', { name: 'Show the hosts' }).getByRole('button').nth(cluster.name === 'real' ? 0 : 1);
  await chip.click();
  if (cluster.name !== 'real') await until(page, 'hosts of other networks dimmed', () => document.querySelector('.picture .node.dim'));
  await chip.click();
  await page.locator('.picture .node:not(.self)').first().click();
  await page.evaluate(() => scrollTo(0, 0));
}

async function seeContainers(page, cluster) {
  await view(page, 'Containers');
  const found = page.locator('section:not([hidden]) p[role=status]').first();
  await page.getByLabel('Filter').focus();
  const word = cluster.name === 'real' ? '10.20.0.2' : 'host01';
  await page.keyboard.type(word);
  await until(page, `fewer containers by ${word}`, (want) => document.querySelector('section:not([hidden]) p[role=status]').textContent === want, cluster.name === 'real' ? '1 container of 3' : `8 containers of ${cluster.containers}`);
  await page.getByLabel('Filter').fill('no such container');
  await page.getByText('No container is like that.').waitFor();
  await page.getByLabel('Filter').fill('');
  await until(page, 'all containers', (count) => document.querySelector('section:not([hidden]) p[role=status]').textContent === `${count} containers`, cluster.containers);
  await page.getByRole('button', { name: 'Receives' }).click();
  await page.getByRole('columnheader', { name: 'Receives' }).and(page.locator('[aria-sort=descending]')).waitFor();
  check(/bit\/s/.test(await rows(page, 'containers').first().textContent()), 'no rate in the first of', await found.textContent());
}

// Two containers of a network, by their names: what is known of the way, and packets where there is a password.
async function seeTrace(page, cluster) {
  await view(page, 'Containers');
  const names = cluster.name === 'real' ? ['blue', 'green'] : ['web-1 (web)', 'auth-1 (auth)'];
  for (const name of names) await page.getByRole('button', { name, exact: true }).click();
  await page.getByRole('heading', { level: 2, name: 'Trace' }).waitFor();
  const wants = cluster.name === 'real' ? ['It arrives', 'ICMP 10.20.0.1 > 10.20.0.2 echo request', 'green  delivered to green'] : ['It arrives.', 'by `overlane trace`'];
  await until(page, `a trace with ${wants}`, (parts) => parts.every((part) => document.querySelector('pre').textContent.includes(part)), wants);
  if (cluster.name === 'real') await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText(/^Between .* (stopped|that is all)\.$/).waitFor();
}

async function seeDrops(page, cluster) {
  await view(page, 'Drops');
  const reason = cluster.name === 'real' ? 'arp_unknown' : 'spoofed_ip';
  await page.getByRole('row', { name: new RegExp(reason) }).waitFor();
  await until(page, `a line of ${reason}`, (name) => [...document.querySelectorAll('section:not([hidden]) .legend li')].some((item) => item.textContent.startsWith(name)), reason);
  await page.locator('section:not([hidden]) .plot canvas').waitFor();
}

async function seeHealth(page, cluster) {
  await view(page, 'Health');
  await until(page, `${cluster.problems} problems`, (count) => document.querySelectorAll('.problems li').length === count, cluster.problems);
  if (cluster.problems) await page.getByText('Next step:').first().waitFor();
  else await page.getByText('All is well').waitFor();
}

const views = { hosts: seeHosts, containers: seeContainers, trace: seeTrace, drops: seeDrops, health: seeHealth };

async function seeAll(browser, cluster, size, scheme) {
  const tab = await open(browser, cluster, size, scheme);
  await tab.page.evaluate(axe);
  for (const [name, see] of Object.entries(views)) {
    await see(tab.page, cluster);
    await looked(tab.page, `${cluster.name}-${name}-${size.width}-${scheme}`);
  }
  await tab.close();
}

// firstPaint is how long a browser that has nothing of the page takes to paint, and how much it loads.
async function firstPaint(browser, cluster) {
  const tab = await open(browser, cluster, sizes[0], 'light');
  const seen = await tab.page.evaluate(() => ({
    paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
    bytes: [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource').filter((r) => !r.name.includes('/api/'))].reduce((sum, r) => sum + r.transferSize, 0),
  }));
  check(seen.paint > 0, 'nothing was painted');
  [result.first_paint_ms, result.kb] = [Math.round(seen.paint), Math.ceil(seen.bytes / 1000)];
  await tab.close();
}

// keyboard goes through the page without a mouse, and chooses another theme.
async function keyboard(browser, cluster) {
  const tab = await open(browser, cluster, sizes[0], 'light'), { page } = tab;
  const focused = () => page.evaluate(() => document.activeElement.textContent.trim());
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const expected = ['Skip to the content', 'Hosts', 'Containers'];
  for (const want of expected) {
    await page.keyboard.press('Tab');
    check(await focused() === want, 'the focus is on', await focused(), 'and not on', want);
    check(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle) === 'solid', want, 'shows no focus');
  }
  await page.keyboard.press('Enter');
  await until(page, 'the focus on the heading of the view', () => document.activeElement.textContent === 'Containers' && document.activeElement.tagName === 'H2');
  check((await page.title()).startsWith('Containers'), 'the title is', await page.title());
  const light = await back();
  await page.getByLabel('Theme').focus();
  await page.keyboard.press('d');
  await until(page, 'another background', (before) => getComputedStyle(document.body).backgroundColor !== before, light);
  const dark = await back();
  await page.reload();
  await page.locator('main[data-ready]').waitFor();
  check(await back() === dark, 'the theme is forgotten');
  await tab.close();
}

// Without the password there is nothing to see.
async function closed(cluster) {
  for (const path of ['', 'main.js', 'api/state']) {
    const { status } = await fetch(`${cluster.url}/${path}`);
    check(status === 401, `/${path} is served without a password:`, status);
  }
}

// Without one of its scripts the page is empty, and says so.
async function lacking(browser, cluster) {
  const page = await browser.newPage();
  page.setDefaultTimeout(patience);
  await page.route('**/health.js', (route) => route.abort());
  await page.goto(`${cluster.url}/`);
  await page.getByRole('status').getByText('load it again').waitFor();
  await page.close();
}

// What happens shows without a reload: a host dies.
async function live(browser, cluster) {
  const tab = await open(browser, cluster, sizes[1], 'dark'), { page } = tab;
  await view(page, 'Health');
  process.kill(plan.stop, 'SIGKILL');
  await page.getByRole('heading', { name: /Host red is (suspect|dead)/ }).waitFor();
  await page.getByRole('link', { name: 'Health (' }).waitFor();
  await shot(page, 'real-died-390-dark');
  await tab.close();
}

// pictures are those of docs/page.md.
async function pictures(browser, cluster) {
  for (const [name, size, scheme, title] of [['page-100-hosts', { width: 860, height: 620 }, 'light', 'Hosts'], ['page-drops', { width: 640, height: 700 }, 'dark', 'Drops'], ['page-phone', { width: 390, height: 700 }, 'dark', 'Hosts']]) {
    const tab = await open(browser, cluster, size, scheme), { page } = tab;
    await view(page, title);
    await page.locator('section:not([hidden]) .plot canvas').waitFor();
    await shot(page, `docs/${name}`);
    await tab.close();
  }
}

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
try {
  const [real, simulated, alone] = plan.clusters;
  await closed(real);
  await firstPaint(browser, real);
  await keyboard(browser, real);
  for (const size of sizes) for (const scheme of schemes) await Promise.all([real, simulated].map((cluster) => seeAll(browser, cluster, size, scheme)));
  await seeAll(browser, alone, sizes[1], 'light');
  await lacking(browser, alone);
  await live(browser, real);
  if (plan.shots) await pictures(browser, simulated);
  check(!result.axe_serious, result.axe_serious, 'serious faults of accessibility');
  check(result.kb <= 300, 'the page is', result.kb, 'kB');
} catch (error) {
  for (const tell of tabs) tell();
  throw error;
} finally {
  await browser.close();
}
console.log(`RESULT page ${Object.entries(result).map(([name, value]) => `${name}=${value}`).join(' ')}`);
