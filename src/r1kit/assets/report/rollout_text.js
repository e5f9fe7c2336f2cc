/* One completion as elements: thinking and answer apart, reflective words marked. All of its text is text. */

/* A longer piece is folded: its beginning and its end are shown. */
const FOLD = 1500, FOLDED_HEAD = 900, FOLDED_TAIL = 350;

/* [kind, text] pieces of a completion; kind is think, answer or outside. */
function piecesOf(text) {
  const pieces = [];
  let rest = text;
  const put = (kind, piece) => { if (piece.trim()) pieces.push([kind, piece]); };
  const opened = rest.indexOf("<think>"), closed = rest.indexOf("</think>");
  if (opened >= 0 || closed >= 0) {
    // Where the prompt ends with <think>, the completion begins inside it.
    const start = opened >= 0 && (closed < 0 || opened < closed) ? opened + 7 : 0;
    const end = closed >= 0 ? closed : rest.length;
    put("outside", start ? rest.slice(0, start - 7) : "");
    put("think", rest.slice(start, end));
    rest = closed >= 0 ? rest.slice(end + 8) : "";
  }
  const answer = rest.indexOf("<answer>");
  if (answer >= 0) {
    const end = rest.indexOf("</answer>", answer);
    put("outside", rest.slice(0, answer));
    put("answer", rest.slice(answer + 8, end >= 0 ? end : rest.length));
    rest = end >= 0 ? rest.slice(end + 9) : "";
  }
  // A chat model answers in plain words after its thinking.
  put(closed >= 0 && answer < 0 ? "answer" : "outside", rest);
  return pieces;
}

/* Text with reflective words, and what was searched for, in marks. */
function marked(text, words, sought) {
  const found = document.createDocumentFragment();
  const escaped = sought.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const pattern = sought ? new RegExp(`(${escaped})|${words.source}`, "gi") : words;
  let last = 0;
  for (const match of text.matchAll(pattern)) {
    if (!match[0]) continue;
    found.append(text.slice(last, match.index), make("mark", sought && match[1] ? { class: "hit" } : {}, match[0]));
    last = match.index + match[0].length;
  }
  found.append(text.slice(last));
  return found;
}

function wordPattern({ latin, other }) {
  return new RegExp(`(?<![A-Za-z])(?:${latin.join("|")})(?![A-Za-z])|${other.join("|")}`, "gi");
}

function textOf(text, { words, sought, verdict, isCut }) {
  const pieces = piecesOf(text).map(([kind, piece]) => {
    const tag = { think: "thinking", answer: "answer", outside: null }[kind];
    const place = make("div", { class: kind === "answer" ? `answer ${verdict}` : kind });
    const isFolded = piece.length > FOLD && !sought;
    const body = () => marked(piece.trim(), words, sought);
    place.append(...[tag && make("span", { class: "tag" }, tag), isFolded ? folded(piece.trim(), words, body) : body()].filter(Boolean));
    return place;
  });
  const cut = isCut ? make("div", { class: "cut" }, "cut at the limit") : null;
  return make("div", { class: "text" }, ...(pieces.length ? pieces : [make("div", { class: "outside" }, "(empty)")]), cut);
}

function folded(piece, words, body) {
  const place = make("span");
  const more = make("button", { class: "more", type: "button" }, `… show all ${piece.length.toLocaleString("en")} characters …`);
  more.addEventListener("click", () => place.replaceChildren(body()));
  const [head, tail] = [piece.slice(0, FOLDED_HEAD), piece.slice(-FOLDED_TAIL)];
  place.append(marked(head, words, ""), "\n", more, "\n", marked(tail, words, ""));
  return place;
}

const signed = (value) => `${value > 0 ? "+" : ""}${value.toFixed(2)}`.replace("-", "−");
const VERDICTS = ["wrong", "right", "unknown"];
const TONES = { wrong: "bad", right: "good", unknown: "warn" };

/* A rollout as a card; `withProblem` puts the question and the gold on it. */
function rolloutCard(table, row, { words, sought = "", withProblem = false }) {
  const [, task, language, prompt, gold] = table.problems[table.problem[row]];
  const verdict = VERDICTS[table.verdict[row]];
  const facts = [];
  if (withProblem && runs.length > 1) facts.push(runs[table.run[row]]);
  if (withProblem) facts.push(`iteration ${table.iteration[row]}`, ["training", "held out", "harder"][table.test[row]], task, language);
  if (table.tokens[row] != null) facts.push(`${table.tokens[row].toLocaleString("en")} tokens`);
  if (table.reflections[row]) facts.push(`${table.reflections[row]} reflective`);
  if (table.mixes[row]) facts.push("mixes languages");
  const parts = Object.entries(table.parts).filter(([, values]) => values[row] != null);
  const figures = [
    table.reward[row] != null && ["reward", String(table.reward[row])],
    table.advantage[row] != null && ["advantage", signed(table.advantage[row])],
    ...parts.map(([name, values]) => [name, String(values[row])]),
  ].filter(Boolean);
  return make("article", { class: "card rollout" },
    make("header", {}, make("span", { class: `badge ${TONES[verdict]}` }, verdict), make("span", {}, facts.filter(Boolean).join(" · "))),
    withProblem ? make("div", { class: "asked" }, marked(prompt, /(?!)/g, sought)) : null,
    withProblem ? make("div", { class: "muted" }, `gold: ${gold}`) : null,
    textOf(table.completion[row], { words, sought, verdict, isCut: table.finish[row] === 1 }),
    make("div", { class: "parts" }, ...figures.map(([name, value]) => make("span", {}, `${name} `, make("b", {}, value)))));
}
