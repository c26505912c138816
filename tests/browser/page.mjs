// Opens the status page in Chromium, as people do: with the built velt-watch, against the built velt-sim, both of which `cargo test --no-run`
// leaves in target/debug. Needs Debian's chromium and `npm ci` in this folder. Says what it checked, and ends with 1 if something is wrong.

import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = path.dirname(fileURLToPath(import.meta.url));
const built = path.join(here, "../../target/debug");
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "velt-watch-page-"));
const PATIENCE = 120_000;

const wrong = [];
let checks = 0;
const check = (holds, what) => {
  checks += 1;
  if (holds) return;
  wrong.push(what);
  console.error(`WRONG: ${what}`);
};
/** A port where nobody listens, and which is given to nobody by chance: it is below all that are. */
const REFUSING = 1;

/** Waits until it holds; how long that took is nobody's business but the limit's. */
const until = async (what, holds) => {
  const by = Date.now() + PATIENCE;
  for (;;) {
    try {
      if (await holds()) return check(true, what);
    } catch (error) {
      if (Date.now() > by) console.error(error);
    }
    if (Date.now() > by) return check(false, `never: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
};
const running = [];
const start = (program, args, env) => {
  const child = spawn(path.join(built, program), args, { cwd: folder, env: { PATH: process.env.PATH, HOME: folder, ...env } });
  child.text = "";
  for (const out of [child.stdout, child.stderr]) out.on("data", (text) => (child.text += text));
  child.ended = new Promise((done) => child.on("close", done));
  running.push(child);
  return child;
};

/** Everything an API can put words into. */
const HOSTILE = `"><img src=x onerror="window.pwned=1"><script>window.pwned=2</script><b onmouseover=window.pwned=3>\u202ekram</b>&lt;`;
const step = (stepId, nodeId, nodeType, status, more) => ({ stepId, nodeId, nodeType, status, groupId: null, startedAt: Date.now() - 60_000, completedAt: null, output: {}, error: null, ...more });
const view = (executionId, status, steps, more) => ({ executionId, status, steps, startedAt: Date.now() - 60_000, completedAt: null, cancelledAt: null, definitionId: "marketing-copy-approval", definitionVersion: 1, correlationId: null, idempotencyKey: null, failureReason: null, ...more });

const control = async (where, body, method = "POST") => {
  const answer = await fetch(sim + where, { method, body: JSON.stringify(body), headers: { "content-type": "application/json" } });
  if (!answer.ok) throw new Error(`${where}: ${answer.status} ${await answer.text()}`);
};

let sim, site, browser;

/** A page, with everything it complains about kept. */
const open = async (where, options = {}) => {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => page.complaints.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => page.complaints.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    page.complaints.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(site) && !url.startsWith("data:")) page.complaints.push(`asks elsewhere: ${url}`);
  });
  if (options.javaScriptEnabled !== false) {
    await page.addInitScript(() => {
      window.violations = [];
      addEventListener("securitypolicyviolation", (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
    });
  }
  await page.goto(site + where, { waitUntil: "domcontentloaded" });
  return page;
};
const isQuiet = async (page, what) => {
  const violations = await page.evaluate(() => window.violations);
  check(!page.complaints.length && !violations.length, `${what}: ${[...page.complaints, ...violations].join("; ")}`);
};
const scrollsSideways = (page) => page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);

const judge = async (page, what) => {
  // Through the debugger, which the page's own policy doesn't bind.
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(axe);
  const { violations, passes, incomplete } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations", "incomplete"] }));
  for (const found of violations) check(false, `${what}: axe: ${found.id}: ${found.help}: ${found.nodes.map((node) => node.html).slice(0, 3).join(" ")}`);
  check(passes.length > 10, `${what}: axe has looked at something`);
  const open = incomplete.map((found) => `${found.id} (${found.nodes.length})`).join(", ");
  console.log(`  axe, ${what}: ${violations.length} violations, ${passes.length} rules passed${open && `, for a person to judge: ${open}`}`);
};

const everything = async () => {
  const page = await open("/");
  await until("it goes live", async () => (await page.textContent("#link b")) === "Live");
  await page.evaluate(() => (window.mark = "the same page"));
  const section = (id) => page.textContent(`#${id}`);
  await until("a run shows", async () => (await section("running")).includes("Newsletter 18"));
  await control("/sim/executions/exec_moves", view("exec_moves", "running", [step("s1", "human-legal", "human", "waiting")]), "PUT");
  await until("it waits for a human now", async () => (await section("waiting")).includes("Newsletter 18"));
  await until("the tab says that somebody is waited for", async () => (await page.title()).includes("waiting"));
  // Focus stays where it is while parts are replaced.
  await page.focus('#waiting a[href="executions/exec_moves"]');
  await control("/sim/executions/exec_hostile", view("exec_hostile", HOSTILE, [step(HOSTILE, HOSTILE, HOSTILE, "waiting"), step("s2", HOSTILE, "human", "failed", { error: { code: HOSTILE, message: HOSTILE } })], { definitionId: HOSTILE }), "PUT");
  await until("the hostile one shows", async () => (await section("waiting")).includes("exec_hostile"));
  check(await page.evaluate(() => document.activeElement?.getAttribute("href") === "executions/exec_moves"), "the focus stays over an update");
  check((await section("waiting")).includes("<script>window.pwned=2</script>"), "a hostile name is shown as it is");
  check(await page.evaluate(() => document.scripts.length === 1 && !document.querySelector("img, b[onmouseover]") && !window.pwned), "and is nothing but text");
  check(!(await page.evaluate(() => document.body.textContent.includes("\u202e"))), "and turns no direction");
  const before = await page.textContent('#waiting tr[id^="waiting/exec_moves"] time');
  await until("ages are counted on", async () => (await page.textContent('#waiting tr[id^="waiting/exec_moves"] time')) !== before);
  await control("/sim/executions/exec_moves", view("exec_moves", "completed", [step("s1", "human-legal", "human", "completed", { completedAt: Date.now(), output: { decision: "approve" } })], { completedAt: Date.now() }), "PUT");
  await until("it has ended", async () => (await section("ended")).includes("Newsletter 18") && !(await section("waiting")).includes("Newsletter 18"));
  check((await page.evaluate(() => window.mark)) === "the same page", "without being loaded again");
  await isQuiet(page, "the page complains about nothing");

  await page.reload({ waitUntil: "domcontentloaded" });
  await page.keyboard.press("Tab");
  await until("the first stop of the keyboard skips to the content", () => page.evaluate(() => document.activeElement.className === "skip"));
  await page.keyboard.press("Enter");
  await until("which it does", () => page.evaluate(() => document.activeElement.id === "main"));
  return page;
};

const oneRun = async () => {
  const page = await open("/executions/exec_hostile");
  await until("a run's page goes live", async () => (await page.textContent("#link b")) === "Live");
  await until("the run has bars", async () => (await page.locator("#run svg rect").count()) > 0);
  await control("/sim/executions/exec_hostile", view("exec_hostile", "completed", [step(HOSTILE, HOSTILE, HOSTILE, "completed", { completedAt: Date.now(), output: { decision: HOSTILE } }), step("s2", HOSTILE, "human", "failed", { error: { code: HOSTILE, message: HOSTILE } })], { definitionId: HOSTILE, completedAt: Date.now() }), "PUT");
  await until("its end shows", async () => (await page.textContent("#head")).includes("completed"));
  check(await page.evaluate(() => document.scripts.length === 1 && !document.querySelector("img") && !window.pwned), "hostile words are text there, too");
  await isQuiet(page, "a run's page complains about nothing");
  await page.context().close();
};

const looks = async () => {
  for (const where of ["/", "/executions/exec_waits", "/executions/nobody"]) {
    const page = await open(where);
    for (const colorScheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme });
      for (const width of [1280, 360]) {
        await page.setViewportSize({ width, height: 800 });
        const what = `${where} ${colorScheme}, ${width} px`;
        check(!(await scrollsSideways(page)), `${what}: it scrolls sideways`);
        await judge(page, what);
      }
    }
    await page.context().close();
  }
};

const withoutScript = async () => {
  const page = await open("/", { javaScriptEnabled: false, viewport: { width: 390, height: 800 } });
  for (const part of ["Waiting for a human", "human-legal", "Q2 launch copy", "Trouble", "Sinks", "approvals", "connection refused"]) {
    await until(`without a script it shows ${part}`, async () => {
      if ((await page.textContent("main")).includes(part)) return true;
      await page.reload({ waitUntil: "domcontentloaded" });
      return false;
    });
  }
  await page.click('#waiting a[href="executions/exec_waits"]');
  await until("a link leads to the run", async () => (await page.textContent("h1")) === "Q2 launch copy");
  await until("which is drawn", async () => (await page.locator("#run svg rect").count()) > 0);
  await page.click(".brand a");
  await until("and there is a way back", async () => (await page.locator("#waiting").count()) === 1);
  await page.context().close();
};

try {
  const simulator = start("velt-sim", ["serve", "--listen", "127.0.0.1:0", "--speed", "0"], {});
  await until("velt-sim listens", () => /http:\/\/\S+/.test(simulator.text));
  [sim] = simulator.text.match(/http:\/\/[^\s/]+/);
  await control("/sim/executions/exec_waits", view("exec_waits", "running", [step("s0", "agent-draft", "agent", "completed", { completedAt: Date.now() - 50_000 }), step("s1", "human-legal", "human", "waiting", { groupId: "review" })]), "PUT");
  await control("/sim/executions/exec_moves", view("exec_moves", "running", [step("s1", "agent-draft", "agent", "running")]), "PUT");
  await control("/sim/executions/exec_hostile", view("exec_hostile", "running", []), "PUT");
  await control("/sim/executions/exec_failed", view("exec_failed", "failed", [step("s1", "agent-draft", "agent", "failed", { completedAt: Date.now(), error: { code: "MODEL", message: "no answer" } })], { completedAt: Date.now(), failureReason: { code: "STEP_FAILED", message: "agent-draft failed" } }), "PUT");
  await control("/sim/executions/exec_ill", view("exec_ill", "running", []), "PUT");
  await control("/sim/faults", { fault: { kind: "error", status: "INTERNAL", message: HOSTILE }, executionId: "exec_ill" });
  fs.writeFileSync(path.join(folder, "list.txt"), `exec_waits Q2 launch copy\nexec_moves Newsletter 18\nexec_hostile ${HOSTILE.replaceAll("\n", "")}\nexec_failed\nexec_ill\n`);
  fs.writeFileSync(
    path.join(folder, "config.toml"),
    `[watch]\nfile = "list.txt"\n[poll]\ninitial_interval = "100ms"\nmax_interval = "300ms"\nrate_limit = inf\nevents = false\n[http]\nlisten = "127.0.0.1:0"\n` +
      `[[sink]]\nname = "stdout"\ntype = "stdout"\nformat = "json"\n[[sink]]\nname = "approvals"\ntype = "webhook"\nurl = "http://127.0.0.1:${REFUSING}/"\nformat = "json"\n` +
      `retry = { initial_interval = "1s", max_interval = "2s" }\n`,
    { mode: 0o600 },
  );
  const watch = start("velt-watch", ["-c", "config.toml", "--state", "state.db"], { VELT_API_URL: sim, VELT_API_KEY: "sim-api-key", VELT_AUTH_TOKEN: "sim-auth-token" });
  const says = /status and metrics at (http:\/\/[^\s/]+)/;
  await until("velt-watch listens", () => says.test(watch.text));
  site = watch.text.match(says)[1];
  await until("velt-watch answers", async () => (await fetch(`${site}/readyz`)).ok);
  browser = await chromium.launch({
    timeout: PATIENCE,
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  console.log(`  Chromium ${browser.version()}, axe-core ${createRequire(import.meta.url)("axe-core/package.json").version}`);
  const page = await everything();
  await oneRun();
  await withoutScript();
  await looks();

  await until("the page is live before the end", async () => (await page.textContent("#link b")) === "Live");
  watch.kill("SIGTERM");
  check((await watch.ended) === 0, "it stops although a page is open");
  await until("a page that is cut off says so", async () => (await page.textContent("#link b")).startsWith("Connection lost"));
} catch (error) {
  check(false, error.stack);
  for (const child of running) console.error(child.text);
} finally {
  await browser?.close();
  for (const child of running) child.kill("SIGKILL");
  fs.rmSync(folder, { recursive: true, force: true });
}
console.log(wrong.length ? `  ${wrong.length} of ${checks} checks went wrong` : `  ${checks} checks, all well`);
process.exitCode = wrong.length ? 1 : 0;
