"use strict";
(() => {
  const RIGHT = "1", NONE = "-", PAGE = 60, MOST_CELLS = 4e6;
  const el = (id) => document.getElementById(id);
  if (!el("index")) return;
  const words = (name) => name.replaceAll("_", " ");
  const signs = { "1": "●", "0": "○", "-": "–" };
  const spoken = { "1": "right", "0": "wrong", "-": "no answer" };
  const state = { item: null, shown: PAGE };
  const blocks = new Map(), waiting = new Map();
  let data;

  /* Text of a model goes into the page as text alone; control characters, such as those of ANSI codes, as pictures, and
     those that turn the direction of writing around by their numbers. */
  const visible = (text) => text
    .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g,
      (c) => String.fromCharCode(c === "\u007f" ? 0x2421 : 0x2400 + c.charCodeAt(0)))
    .replace(/[\u202a-\u202e\u2066-\u2069]/g, (c) => "\\u" + c.charCodeAt(0).toString(16));
  const make = (name, text, className) => {
    const node = document.createElement(name);
    if (text !== undefined) node.textContent = visible(String(text));
    if (className) node.className = className;
    return node;
  };

  async function inflate(text) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  /* The texts of a trial: in the page, or in a file beside it that calls cardBlock. */
  window.cardBlock = (number, text) => waiting.get(number)?.resolve(inflate(text));
  function block(number) {
    if (!blocks.has(number)) {
      const inPage = el(`block-${number}`);
      blocks.set(number, inPage ? inflate(inPage.textContent) : new Promise((resolve, reject) => {
        waiting.set(number, { resolve });
        const script = document.createElement("script");
        script.src = `${data.folder}/${encodeURIComponent(data.trials[number].file)}`;
        script.onerror = () => { blocks.delete(number); reject(new Error(`${script.getAttribute("src")} is missing: keep it beside this page`)); };
        document.head.append(script);
      }));
    }
    return blocks.get(number);
  }
  async function textsOf(number, condition) {
    const own = (await block(number))[condition];
    return typeof own === "number" ? (await block(own))[condition] : own;
  }

  const verdict = (trial, condition, i) => data.trials[trial].verdicts[condition]?.[i];
  const solves = (trial, condition, i) => verdict(trial, condition, i) === RIGHT;
  const has = (trial, condition) => condition in data.trials[trial].verdicts;
  const chosen = () => Number(el("trial").value);
  const other = () => (el("against").value === "" ? null : Number(el("against").value));

  function filters() {
    const t = chosen(), o = other(), made = [["all", "all", () => true]];
    const add = (key, label, test) => made.push([key, label, test]);
    if (has(t, "target_alone")) {
      add("gained", "bridged solves it, target alone does not", (i) => solves(t, "bridged", i) && !solves(t, "target_alone", i));
      add("lost", "target alone solves it, bridged does not", (i) => !solves(t, "bridged", i) && solves(t, "target_alone", i));
    }
    if (has(t, "shuffled_soft"))
      add("informed", "bridged solves it, shuffled does not", (i) => solves(t, "bridged", i) && !solves(t, "shuffled_soft", i));
    if (has(t, "source_alone"))
      add("missed", "source alone solves it, bridged does not", (i) => !solves(t, "bridged", i) && solves(t, "source_alone", i));
    add("right", "bridged solves it", (i) => solves(t, "bridged", i));
    add("wrong", "bridged does not solve it", (i) => !solves(t, "bridged", i));
    add("none", "bridged gives no answer", (i) => verdict(t, "bridged", i) === NONE);
    if (o !== null) {
      const [a, b] = [data.trials[t].name, data.trials[o].name];
      add("changed", "the two trials differ", (i) => solves(t, "bridged", i) !== solves(o, "bridged", i));
      add("first", `only ${a} solves it`, (i) => solves(t, "bridged", i) && !solves(o, "bridged", i));
      add("second", `only ${b} solves it`, (i) => !solves(t, "bridged", i) && solves(o, "bridged", i));
    }
    return made;
  }

  const all = () => data.items.map((_, n) => n);
  function matching() {
    const test = (filters().find(([key]) => key === el("filter").value) ?? filters()[0])[2];
    const needle = el("search").value.trim().toLowerCase();
    return all().filter((i) => test(i) && (!needle || data.items[i].search.includes(needle)));
  }

  function fillFilters() {
    const kept = el("filter").value, counts = filters();
    el("filter").replaceChildren(...counts.map(([key, label, test]) =>
      new Option(`${label} (${all().filter(test).length.toLocaleString("en")})`, key, false, key === kept)));
  }

  function list() {
    const found = matching(), trial = chosen();
    const conditions = data.conditions.filter((name) => has(trial, name));
    el("count").textContent = `${found.length.toLocaleString("en")} of ${data.items.length.toLocaleString("en")} items. ` +
      `Marks from left to right: ${conditions.map(words).join(", ")}; ● right, ○ wrong, – no answer.`;
    el("list").replaceChildren(...found.slice(0, state.shown).map((i) => {
      const button = make("button"), head = make("span", undefined, "head");
      button.type = "button";
      button.dataset.item = i;
      if (i === state.item) button.setAttribute("aria-current", "true");
      const marks = make("span", conditions.map((c) => signs[verdict(trial, c, i)]).join(""), "marks");
      marks.setAttribute("aria-hidden", "true");
      head.append(make("span", data.items[i].id), marks,
        make("span", conditions.map((c) => `${words(c)} ${spoken[verdict(trial, c, i)]}`).join(", "), "unseen"));
      button.append(head, make("span", data.items[i].question || data.items[i].gold, "snippet"));
      button.addEventListener("click", () => open(i, true));
      const line = make("li");
      line.append(button);
      return line;
    }));
    el("more").hidden = found.length <= state.shown;
    return found;
  }

  /* Mark the words of `text` that a longest common subsequence of words with `base` leaves out. */
  function marked(base, text) {
    const a = base.split(/\s+/).filter(Boolean), parts = text.split(/(\s+)/);
    const b = parts.filter((part) => part.trim());
    let start = 0, end = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start++;
    while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
    const x = a.slice(start, a.length - end), y = b.slice(start, b.length - end), width = y.length + 1;
    const same = new Set();
    for (let j = 0; j < start; j++) same.add(j);
    for (let j = b.length - end; j < b.length; j++) same.add(j);
    if (x.length * y.length <= MOST_CELLS) {
      const longest = new Uint16Array((x.length + 1) * width);
      for (let i = x.length - 1; i >= 0; i--)
        for (let j = y.length - 1; j >= 0; j--)
          longest[i * width + j] = x[i] === y[j] ? longest[(i + 1) * width + j + 1] + 1
            : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
      for (let i = 0, j = 0; i < x.length && j < y.length;)
        if (x[i] === y[j]) { same.add(start + j); i++; j++; }
        else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i++;
        else j++;
    }
    const pre = make("pre");
    let word = 0, run = "", gap = "";
    const close = () => { if (run) pre.append(make("mark", run)); pre.append(visible(gap)); run = gap = ""; };
    for (const part of parts) {
      if (!part.trim()) gap += part;
      else if (same.has(word++)) { close(); pre.append(visible(part)); }
      else { run += (run ? gap : (pre.append(visible(gap)), "")) + part; gap = ""; }
    }
    close();
    return pre;
  }

  async function answer(trial, condition, i, title, base) {
    const code = verdict(trial, condition, i), box = make("article", undefined, `answer ${code === RIGHT ? "right" : ""}`);
    const texts = await textsOf(trial, condition), output = texts.outputs[i];
    box.append(make("h4", title), make("p", `${signs[code]} ${spoken[code]}${texts.answers[i] === null ? "" : `: ${texts.answers[i]}`}`, "score"));
    if (base === null) box.append(make("pre", output));
    else box.append(marked(base, output));
    return box;
  }

  async function show() {
    const i = state.item, trial = chosen(), against = other(), place = el("item");
    if (i === null) {
      place.replaceChildren(make("p", "Choose an item.", "note"));
      return;
    }
    const { id, question, gold } = data.items[i], head = make("h3", ""), link = make("a", "link to this item");
    link.href = hash();
    head.append(make("span", id), link);
    const columns = make("div", undefined, "columns");
    try {
      const base = (await textsOf(trial, "bridged")).outputs[i];
      const wanted = data.conditions.filter((name) => has(trial, name)).map((name) => [trial, name, words(name)]);
      if (against !== null) wanted.splice(1, 0, [against, "bridged", `bridged, ${data.trials[against].name}`]);
      for (const [t, name, title] of wanted)
        columns.append(await answer(t, name, i, title, t === trial && name === "bridged" ? null : base));
    } catch (error) {
      columns.append(make("p", error.message, "warning"));
    }
    if (i !== state.item || trial !== chosen() || against !== other()) return;
    const about = `Gold answer: ${gold}. Marked: words that the bridged answer does not have there.`;
    place.replaceChildren(head, make("p", question, "question"), make("p", about, "note"), columns);
  }

  function hash() {
    const parts = new URLSearchParams({ item: data.items[state.item].id, trial: data.trials[chosen()].name });
    if (other() !== null) parts.set("against", data.trials[other()].name);
    return `#${parts}`;
  }
  function open(i, byHand) {
    state.item = i;
    for (const button of el("list").querySelectorAll("button"))
      if (Number(button.dataset.item) === i) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    if (byHand) history.replaceState(null, "", hash());
    return show();
  }

  function fromHash() {
    const wanted = new URLSearchParams(location.hash.slice(1)), number = (key) => data.trials.findIndex((t) => t.name === wanted.get(key));
    if (!wanted.has("item")) return false;
    if (number("trial") >= 0) el("trial").value = number("trial");
    if (number("against") >= 0) el("against").value = number("against");
    const i = data.items.findIndex((item) => item.id === wanted.get("item"));
    if (i < 0) return false;
    fillFilters();
    list();
    open(i, false);
    el("answers").scrollIntoView();
    return true;
  }

  async function start() {
    data = await inflate(el("index").textContent);
    for (const item of data.items) item.search = `${item.id}\n${item.question}\n${item.gold}`.toLowerCase();
    const options = data.trials.map((trial, number) => [trial.name, number]);
    el("trial").replaceChildren(...options.map(([name, number]) => new Option(name, number)));
    el("against").replaceChildren(new Option("no other trial", ""), ...options.map(([name, number]) => new Option(name, number)));
    const again = () => { state.shown = PAGE; list(); };
    for (const id of ["trial", "against"])
      el(id).addEventListener("change", () => { fillFilters(); again(); if (state.item !== null) history.replaceState(null, "", hash()); show(); });
    el("filter").addEventListener("change", again);
    el("search").addEventListener("input", again);
    el("more").addEventListener("click", () => { state.shown += PAGE; list(); });
    window.addEventListener("hashchange", fromHash);
    fillFilters();
    if (!fromHash()) {
      const found = list();
      if (found.length) open(found[0], false);
    }
    document.documentElement.dataset.ready = "true";
  }
  start();
})();
