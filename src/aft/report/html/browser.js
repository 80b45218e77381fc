"use strict";
// The browser of questions. Every text enters the page as a text node, so that no text of a model can act.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const PAGE = 50; // questions listed at a time
  const LEAST = 0.001; // nats per token; a smaller change does not count as moved
  const get = (id) => document.getElementById(id);
  const KINDS = { test: "test", pool: "held-out pool", training: "training" };
  const { questions, models, origin } = data;
  const originAt = models.indexOf(origin);

  // ---- small tools ----

  function make(tag, options, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options || {})) {
      if (name === "class") element.className = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
  }

  const isNumber = (value) => typeof value === "number";
  const number = (value) => (isNumber(value) ? value.toFixed(3).replace("-", "−") : value || "–");
  const count = (value) => value.toLocaleString("en");
  const signed = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(3);
  const difference = (a, b) => (isNumber(a) && isNumber(b) ? a - b : null);

  function movedElement(value) {
    if (value === null) return null;
    if (Math.abs(value) <= LEAST) return make("span", { class: "soft" }, "±0.000");
    const [name, arrow] = value > 0 ? ["up", "▲"] : ["down", "▼"];
    return make("span", { class: name }, make("span", { "aria-hidden": "true" }, arrow), ` ${signed(value)}`);
  }

  const words = { right: "right", wrong: "wrong", unparsed: "no answer read", reference: "reference" };
  const word = (label) => make("span", { class: `${label}-word` }, words[label]);

  function mean(values) {
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  }

  function drift(question, label, model) {
    const at = models.indexOf(model);
    const sides = label === "right" ? ["right", "reference"] : ["wrong", "unparsed"];
    const moves = (question.chains || [])
      .filter((chain) => sides.includes(chain.label))
      .map((chain) => difference(chain.scores[at], chain.scores[originAt]))
      .filter((value) => value !== null);
    return mean(moves);
  }

  // ---- state ----

  const CHOICES = {
    kind: [["", "all"], ...Object.entries(KINDS).filter(([kind]) => questions.some((q) => q.kind === kind))],
    seed: [["", "all"], ...data.seeds.map((seed) => [String(seed), String(seed)])],
    method: models.map((model) => [model, model]),
    versus: models.map((model) => [model, model]),
    label: [["", "all"], ["right", "right"], ["wrong", "wrong"], ["unparsed", "no answer read"], ["truncated", "truncated"]],
    pair: [
      ["", "all"],
      ["first", "only Method right"],
      ["second", "only the other right"],
      ["both", "both right"],
      ["neither", "neither right"],
      ["differ", "different answers"],
    ],
    moved: [
      ["", "all"],
      ["right-up", "right chains up"],
      ["right-down", "right chains down"],
      ["wrong-up", "wrong chains up"],
      ["wrong-down", "wrong chains down"],
      ["both-fell", "both fell"],
    ],
    category: [["", "all"], ...[...new Set(questions.map((q) => q.category).filter(Boolean))].sort().map((c) => [c, c])],
    sort: [["", "as in the data"], ["fall", "right chains fell"], ["rise", "wrong chains rose"]],
  };
  const trained = models.filter((model) => model !== origin && model !== "base");
  const DEFAULTS = { method: trained[trained.length - 1] || models[0], versus: origin };
  const state = { search: "", at: "" };

  function readAddress() {
    const given = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
    state.search = given.get("search") || "";
    state.at = given.get("at") || "";
    for (const [name, choices] of Object.entries(CHOICES)) {
      const value = given.get(name);
      state[name] = choices.some(([known]) => known === value) ? value : DEFAULTS[name] || "";
    }
  }

  function address(changes) {
    const wanted = { ...state, ...changes };
    const kept = new URLSearchParams();
    for (const name of [...Object.keys(CHOICES), "search", "at"]) {
      if (wanted[name] && wanted[name] !== (DEFAULTS[name] || "")) kept.set(name, wanted[name]);
    }
    return `#?${kept}`;
  }

  const writeAddress = () => history.replaceState(null, "", address());
  const keyOf = (question) => `${question.kind}/${question.seed}/${question.id}`;

  // ---- filters ----

  const texts = new Map();
  function searchText(question) {
    if (!texts.has(question)) {
      const parts = [question.id, question.question, question.gold, question.category || ""];
      for (const answer of Object.values(question.answers || {})) parts.push(answer.text);
      for (const chain of question.chains || []) parts.push(chain.text);
      for (const chains of Object.values(question.own || {})) parts.push(...chains.map((chain) => chain.text));
      texts.set(question, parts.join("\n").toLowerCase());
    }
    return texts.get(question);
  }

  function hasLabel(question) {
    if (!state.label) return true;
    const fits = (chain) => (state.label === "truncated" ? Boolean(chain.truncated) : chain.label === state.label);
    if (question.answers) return Object.hasOwn(question.answers, state.method) && fits(question.answers[state.method]);
    const own = (question.own || {})[state.method] || [];
    return [...question.chains, ...own].some(fits);
  }

  function hasPair(question) {
    if (!state.pair) return true;
    const first = (question.answers || {})[state.method];
    const second = (question.answers || {})[state.versus];
    if (!first || !second) return false;
    if (state.pair === "differ") return first.answer !== second.answer;
    const found = [first.label === "right", second.label === "right"];
    const wanted = { first: [true, false], second: [false, true], both: [true, true], neither: [false, false] };
    return wanted[state.pair].every((value, place) => value === found[place]);
  }

  function hasMoved(question) {
    if (!state.moved) return true;
    const right = drift(question, "right", state.method);
    const wrong = drift(question, "wrong", state.method);
    const fell = (value) => value !== null && value < -LEAST;
    const rose = (value) => value !== null && value > LEAST;
    return {
      "right-up": rose(right),
      "right-down": fell(right),
      "wrong-up": rose(wrong),
      "wrong-down": fell(wrong),
      "both-fell": fell(right) && fell(wrong),
    }[state.moved];
  }

  function filtered() {
    const wanted = state.search.toLowerCase();
    const found = questions.filter(
      (question) =>
        (!state.kind || question.kind === state.kind) &&
        (!state.seed || String(question.seed) === state.seed) &&
        (!state.category || question.category === state.category) &&
        hasLabel(question) &&
        hasPair(question) &&
        hasMoved(question) &&
        (!wanted || searchText(question).includes(wanted)),
    );
    if (!state.sort) return found;
    const label = state.sort === "fall" ? "right" : "wrong";
    const sign = state.sort === "fall" ? 1 : -1;
    const place = new Map(found.map((question) => [question, drift(question, label, state.method)]));
    const last = (value) => (value === null ? Infinity : sign * value);
    return found.sort((a, b) => last(place.get(a)) - last(place.get(b)) || 0);
  }

  // ---- the list ----

  let found = [];
  let listed = 0;
  const list = get("list").querySelector("ol");
  const links = new Map();

  function summary(question) {
    if (question.answers) {
      const answer = question.answers[state.method];
      return answer ? [word(answer.label), `: ${answer.answer === undefined ? "–" : answer.answer}`] : ["not answered"];
    }
    const parts = [];
    for (const label of ["right", "wrong"]) {
      const moved = movedElement(drift(question, label, state.method));
      if (moved) parts.push(parts.length ? ", " : "", `${label} `, moved);
    }
    return parts.length ? parts : [`${question.chains.length} chains`];
  }

  function listMore(upTo) {
    for (; listed < Math.min(upTo, found.length); listed += 1) {
      const question = found[listed];
      const link = make(
        "a",
        { href: address({ at: keyOf(question) }), "data-at": keyOf(question) },
        make("span", { class: "line" }, question.question),
        make("span", { class: "soft" }, `${KINDS[question.kind]}, seed ${question.seed} · `, ...summary(question)),
      );
      links.set(question, link);
      list.append(make("li", null, link));
    }
    const more = get("more");
    more.hidden = listed >= found.length;
    more.textContent = `Show ${count(Math.min(PAGE, found.length - listed))} more of ${count(found.length - listed)}`;
  }

  function markChosen() {
    for (const link of list.querySelectorAll("[aria-current]")) link.removeAttribute("aria-current");
    const place = found.findIndex((question) => keyOf(question) === state.at);
    if (place < 0) return place;
    if (place >= listed) listMore(place + PAGE);
    const link = links.get(found[place]);
    link.setAttribute("aria-current", "true");
    // only the list scrolls: the page stays where the reader is
    const box = get("list");
    const [top, bottom] = [link.offsetTop - box.offsetTop, link.offsetTop - box.offsetTop + link.offsetHeight];
    if (top < box.scrollTop) box.scrollTop = top;
    else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
    return place;
  }

  function tell(place) {
    const sum = found.length === 1 ? "1 question found" : `${count(found.length)} questions found`;
    const open = place < 0 ? "" : `; question ${count(place + 1)} is open: ${found[place].question.slice(0, 80)}`;
    get("status").textContent = `${sum}${open}`;
  }

  // ---- one question ----

  function chainText(chain) {
    const text = make("pre", null);
    if (chain.place) {
      const [begin, end] = chain.place;
      text.append(chain.text.slice(0, begin), make("mark", null, chain.text.slice(begin, end)), chain.text.slice(end));
    } else {
      text.append(chain.text || "(empty)");
    }
    return text;
  }

  function facts(chain) {
    const parts = [word(chain.label)];
    if (chain.answer !== undefined) parts.push(` · answer read: ${chain.answer}`);
    else if (chain.label !== "unparsed" && chain.place) parts.push(` · answer: ${chain.text.slice(...chain.place)}`);
    if (chain.reason) parts.push(` · ${chain.reason}`);
    if (chain.truncated) parts.push(" · truncated");
    return make("p", { class: "facts" }, ...parts);
  }

  function chainBox(chain, ...more) {
    return make("div", { class: `chain ${chain.label}` }, facts(chain), chainText(chain), ...more);
  }

  function side(model, ...content) {
    return make("div", null, make("h5", null, model), ...content);
  }

  const pairOfMethods = () => [...new Set([state.method, state.versus])];

  function showAnswers(question) {
    const both = pairOfMethods().map((model) =>
      side(model, question.answers[model] ? chainBox(question.answers[model]) : make("p", { class: "soft" }, "not answered")),
    );
    const rows = models
      .filter((model) => question.answers[model])
      .map((model) => {
        const answer = question.answers[model];
        const label = make("td", { class: "text" }, word(answer.label), answer.truncated ? ", truncated" : "");
        return make(
          "tr",
          pairOfMethods().includes(model) ? { class: "chosen" } : null,
          make("th", { scope: "row" }, model),
          label,
          make("td", { class: "text" }, answer.answer === undefined ? "–" : answer.answer),
        );
      });
    return [
      make("h4", null, "Answers of the two methods"),
      make("div", { class: "sides" }, ...both),
      make("h4", null, "Answers of every method"),
      table(["method", "", "answer read"], rows, "Answers of every method"),
    ];
  }

  function table(headings, rows, name) {
    const cells = headings.map((heading, place) =>
      heading ? make("th", { scope: "col", class: place < 3 ? "text" : "" }, heading) : make("td", null),
    );
    return make(
      "div",
      { class: "scroll", role: "region", tabindex: "0", "aria-label": name },
      make("table", null, make("thead", null, make("tr", null, ...cells)), make("tbody", null, ...rows)),
    );
  }

  function ordered(chains, at) {
    const value = (chain) => (isNumber(chain.scores[at]) ? chain.scores[at] : -Infinity);
    return [...chains].sort((a, b) => value(b) - value(a) || 0);
  }

  function showChains(question) {
    // what is compared stands first, where a narrow screen shows it
    const columns = [...new Set([origin, ...pairOfMethods(), ...models])];
    const scored = columns.filter((model) => question.chains.some((chain) => chain.scores[models.indexOf(model)] !== null));
    const order = ordered(question.chains, originAt);
    const title = scored.includes(origin) ? `Chains by score under ${origin}` : "Chains";
    const parts = [make("h4", null, title)];
    if (scored.length) {
      const rows = order.map((chain, place) =>
        make(
          "tr",
          null,
          make("th", { scope: "row" }, String(place + 1)),
          make("td", { class: "text" }, word(chain.label)),
          make("td", { class: "text" }, chain.answer === undefined ? "–" : chain.answer),
          ...scored.map((model) => {
            const at = models.indexOf(model);
            const moved = model === origin ? null : movedElement(difference(chain.scores[at], chain.scores[originAt]));
            const chosen = pairOfMethods().includes(model) ? { class: "chosen" } : null;
            return make("td", chosen, number(chain.scores[at]), moved && make("br"), moved);
          }),
        ),
      );
      parts.push(table(["chain", "label", "answer read", ...scored], rows, "Scores of the chains under every method"));
      parts.push(make("p", { class: "caption" }, `Scores in nats per token; below a score, how far it moved from ${origin}.`));
    } else {
      parts.push(make("p", { class: "soft" }, "No model has scored these chains (evaluate.training_scores)."));
    }
    const ranks = new Map(
      pairOfMethods().map((model) => [model, ordered(question.chains, models.indexOf(model))]),
    );
    order.forEach((chain, place) => {
      const below = pairOfMethods()
        .filter((model) => chain.scores[models.indexOf(model)] !== null)
        .flatMap((model) => {
          const score = chain.scores[models.indexOf(model)];
          const moved = model === origin ? null : movedElement(difference(score, chain.scores[originAt]));
          const rank = ranks.get(model).indexOf(chain) + 1;
          return [`${model}: ${number(score)}`, moved && " ", moved, `, place ${rank} · `];
        })
        .filter(Boolean);
      if (below.length) below[below.length - 1] = below[below.length - 1].replace(/ · $/, "");
      const heading = make("h5", null, `Chain ${place + 1}`);
      const box = chainBox(chain, below.length ? make("p", { class: "facts below" }, ...below) : null);
      box.prepend(heading);
      parts.push(box);
    });
    return parts;
  }

  function showOwn(question) {
    if (!question.own) return [];
    const sides = pairOfMethods().map((model) => {
      const chains = (question.own[model] || []).map((chain) =>
        chainBox(chain, make("p", { class: "facts below" }, `score under ${model}: ${number(chain.score)}`)),
      );
      return side(model, ...(chains.length ? chains : [make("p", { class: "soft" }, "no chains of its own were scored")]));
    });
    return [make("h4", null, "Chains that the methods wrote themselves"), make("div", { class: "sides" }, ...sides)];
  }

  function otherSeeds(question) {
    const others = questions.filter((other) => other.id === question.id && other.kind === question.kind && other !== question);
    const linked = others.map((other) => make("a", { href: address({ at: keyOf(other) }) }, `seed ${other.seed}`));
    return linked.length ? [" · also under ", ...linked.flatMap((link) => [link, " "])] : [];
  }

  function showQuestion() {
    const box = get("question");
    box.replaceChildren();
    const question = questions.find((candidate) => keyOf(candidate) === state.at);
    if (!question) {
      const hint = questions.length ? "Choose a question from the list, or press j." : "";
      box.append(make("p", { class: "soft" }, state.at ? `This page does not hold ${state.at}. ${data.rest}` : hint));
      return;
    }
    const place = `${KINDS[question.kind]} question ${question.id}, seed ${question.seed}`;
    box.append(
      make("h3", { tabindex: "-1" }, place),
      make("p", { class: "asked" }, question.question),
      make(
        "p",
        { class: "facts" },
        `right answer: ${question.gold}`,
        question.category ? ` · category: ${question.category}` : "",
        ...otherSeeds(question),
      ),
      ...(question.answers ? showAnswers(question) : showChains(question)),
      ...showOwn(question),
    );
  }

  // ---- all of it ----

  function show() {
    for (const name of Object.keys(CHOICES)) get(name).value = state[name];
    if (get("search").value !== state.search) get("search").value = state.search;
    found = filtered();
    listed = 0;
    links.clear();
    list.replaceChildren();
    listMore(PAGE);
    tell(markChosen());
    showQuestion();
  }

  function choose(step) {
    if (!found.length) return;
    const place = found.findIndex((question) => keyOf(question) === state.at);
    const next = place < 0 ? (step > 0 ? 0 : found.length - 1) : Math.min(Math.max(place + step, 0), found.length - 1);
    state.at = keyOf(found[next]);
    writeAddress();
    tell(markChosen());
    showQuestion();
    if (get("question").getBoundingClientRect().top < 0) get("question").scrollIntoView();
  }

  for (const [name, choices] of Object.entries(CHOICES)) {
    const select = get(name);
    select.append(...choices.map(([value, text]) => make("option", { value }, text)));
    select.disabled = choices.length < 2;
    select.addEventListener("change", () => {
      state[name] = select.value;
      writeAddress();
      show();
    });
  }

  let waiting = 0;
  get("search").addEventListener("input", () => {
    clearTimeout(waiting);
    state.search = get("search").value;
    waiting = setTimeout(() => {
      writeAddress();
      show();
    }, 120);
  });
  // a link that was made before the last letters of a search leads to the search with them
  list.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link) link.setAttribute("href", address({ at: link.dataset.at }));
  });
  get("filters").addEventListener("submit", (event) => event.preventDefault());
  get("more").addEventListener("click", () => listMore(listed + PAGE));
  get("reset").addEventListener("click", () => {
    history.replaceState(null, "", "#?");
    readAddress();
    show();
  });
  get("help-open").addEventListener("click", () => get("help").showModal());

  window.addEventListener("hashchange", () => {
    if (location.hash && !location.hash.startsWith("#?")) return; // the link that skips to the questions
    clearTimeout(waiting);
    const before = state.at;
    readAddress();
    show();
    const heading = get("question").querySelector("h3");
    if (state.at !== before && heading) {
      heading.focus({ preventScroll: true });
      get("question").scrollIntoView({ block: "nearest" });
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || get("help").open) return;
    if (event.key === "Escape" && event.target === get("search")) {
      get("search").blur();
      return;
    }
    if (!get("keys").checked || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const act = {
      j: () => choose(1),
      k: () => choose(-1),
      "/": () => get("search").focus(),
      "?": () => get("help").showModal(),
    }[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  for (const place of document.querySelectorAll(".origin")) place.textContent = origin;
  get("sample").textContent = data.sample;
  get("filters").hidden = !questions.length;
  readAddress();
  show();
})();
