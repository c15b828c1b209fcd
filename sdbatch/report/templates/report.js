"use strict";
// Texts of the dataset reach the page through textContent alone: they stay text.
const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 48;
const place = (id) => document.getElementById(id);
const KEY = 0, STATUS = 1, PROMPT = 2, PICTURE = 3, VALUES = 4;
const column = new Map(data.columns.map((name, index) => [name, index]));
const isHash = (value) => /^[0-9a-f]{16,}$/.test(value);
// Digits of hashes and clocks would answer to any number that somebody looks for.
const texts = data.cards.map((card) =>
  [card[KEY], card[PROMPT], ...card[VALUES].filter((value, index) =>
    typeof value === "string" && !isHash(value) && data.columns[index] !== "created_at")]
    .join("\n").toLocaleLowerCase());
let found = [], shown = 0, open = -1;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function valueOf(card, name) {
  if (name === "status") return card[STATUS];
  const index = column.get(name);
  return index === undefined ? null : card[VALUES][index];
}

function labelled(name, field) {
  const label = element("label");
  const span = element("span", "", name);
  span.dir = "auto";
  label.append(span, field);
  return label;
}

function makeFilters() {
  let hidden = 0;
  for (const filter of data.filters) {
    const parent = filter.first ? place("first") : place("rest");
    hidden += filter.first ? 0 : 1;
    if (filter.values) {
      const select = element("select");
      select.append(new Option("any", ""));
      filter.values.forEach(([, label], index) => select.append(new Option(label, String(index))));
      filter.read = () => (select.value === "" ? null : filter.values[Number(select.value)][0]);
      parent.append(labelled(filter.name, select));
    } else {
      const bounds = ["low", "high"].map((end) => {
        const field = element("input");
        field.type = "number";
        field.step = "any";
        field.placeholder = String(Number(filter[end].toPrecision(4)));
        field.setAttribute("aria-label", filter.name + (end === "low" ? " at least" : " at most"));
        return field;
      });
      filter.bounds = () => bounds.map((field) => (field.value === "" ? null : Number(field.value)));
      const group = element("div", "range");
      group.append(bounds[0], element("span", "", "to"), bounds[1]);
      const holder = element("div", "field");
      const name = element("span", "", filter.name);
      name.dir = "auto";
      holder.append(name, group);
      parent.append(holder);
    }
  }
  place("more-filters").hidden = hidden === 0;
  const order = place("order");
  order.append(new Option("as planned", ""));
  for (const filter of data.filters) {
    if (!filter.values || typeof filter.values[0][0] === "number") {
      order.append(new Option(filter.name + " ↑", "+" + filter.name));
      order.append(new Option(filter.name + " ↓", "-" + filter.name));
    }
  }
}

function fits(card, index, words) {
  if (!words.every((word) => texts[index].includes(word))) return false;
  for (const filter of data.filters) {
    if (filter.values) {
      const wanted = filter.read();
      if (wanted !== null && valueOf(card, filter.name) !== wanted) return false;
    } else {
      const [low, high] = filter.bounds();
      if (low === null && high === null) continue;
      const value = valueOf(card, filter.name);
      if (typeof value !== "number") return false;
      if ((low !== null && value < low) || (high !== null && value > high)) return false;
    }
  }
  return true;
}

function look() {
  const words = place("search").value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  found = [];
  data.cards.forEach((card, index) => { if (fits(card, index, words)) found.push(index); });
  const order = place("order").value;
  if (order) {
    const name = order.slice(1), sign = order[0] === "+" ? 1 : -1;
    const rank = (index) => {
      const value = valueOf(data.cards[index], name);
      return typeof value === "number" ? value : null;
    };
    found.sort((a, b) => {
      const first = rank(a), second = rank(b);
      if (first === null || second === null) return (first === null) - (second === null) || a - b;
      return sign * (first - second) || a - b;
    });
  }
  const all = data.cards.length;
  place("count").textContent = found.length === all
    ? `${all.toLocaleString("en")} pictures`
    : `${found.length.toLocaleString("en")} of ${all.toLocaleString("en")} pictures`;
  place("cards").replaceChildren();
  shown = 0;
  showMore();
}

function tile(card) {
  if (card[PICTURE]) {
    const [url, width, height] = card[PICTURE];
    const image = element("img");
    image.width = width;
    image.height = height;
    image.decoding = "async";
    image.alt = "";
    image.src = url;
    return image;
  }
  const reason = card[STATUS] === "failed" ? valueOf(card, "error_type") || "failed" : "no picture";
  return element("span", "none", reason);
}

function makeCard(index, number) {
  const card = data.cards[index];
  const button = element("button", "card " + card[STATUS]);
  button.type = "button";
  const frame = element("span", "tile-frame");
  frame.append(tile(card));
  if (card[STATUS] !== "success") frame.append(element("span", "status", card[STATUS]));
  const caption = element("span", "caption", card[PROMPT].slice(0, 300) || "(no prompt)");
  caption.dir = "auto";
  button.append(frame, caption);
  button.addEventListener("click", () => show(number));
  return button;
}

function showMore() {
  const next = found.slice(shown, shown + PAGE);
  const made = next.map((index, offset) => makeCard(index, shown + offset));
  place("cards").append(...made);
  shown += next.length;
  place("show-more").hidden = shown >= found.length;
  place("show-more").textContent = `Show more (${(found.length - shown).toLocaleString("en")})`;
  if (!found.length) place("cards").append(element("p", "empty", "No picture fits. Clear the search to see all."));
  return made;
}

function show(number) {
  open = number;
  const card = data.cards[found[number]];
  place("picture-key").textContent = card[KEY];
  const prompt = place("picture-prompt");
  prompt.textContent = card[PROMPT] || "(no prompt)";
  place("picture-frame").replaceChildren(tile(card));
  const rows = [["status", card[STATUS]], ...data.columns.map((name, index) => [name, card[VALUES][index]])]
    .filter(([, value]) => value !== null)
    .map(([name, value]) => {
      const row = element("tr"), head = element("th", "", name), cell = element("td");
      head.scope = "row";
      head.dir = cell.dir = "auto";
      cell.textContent = typeof value === "boolean" ? (value ? "yes" : "no") : value === "" ? "(empty)" : String(value);
      row.append(head, cell);
      return row;
    });
  place("picture-facts").replaceChildren(...rows);
  place("picture-note").textContent = card[PICTURE] ? "A small copy. Settings that all pictures share stand at the end of the page." : "";
  place("copy").textContent = "Copy prompt";
  place("previous").disabled = number === 0;
  place("next").disabled = number === found.length - 1;
  if (!place("picture").open) place("picture").showModal();
}

function step(by) {
  const number = open + by;
  if (number >= 0 && number < found.length) show(number);
}

place("picture").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
place("picture").addEventListener("click", (event) => {
  if (event.target === place("picture")) place("picture").close();
});
place("picture").addEventListener("close", () => {
  while (shown <= open && shown < found.length) showMore();
  const card = place("cards").children[open];
  if (card) card.focus();
});
place("close").addEventListener("click", () => place("picture").close());
place("previous").addEventListener("click", () => step(-1));
place("next").addEventListener("click", () => step(1));
place("copy").addEventListener("click", () => {
  const text = data.cards[found[open]][PROMPT];
  const area = element("textarea");
  area.value = text;
  place("picture").append(area);
  area.select();
  place("copy").textContent = document.execCommand("copy") ? "Copied" : "Not copied";
  area.remove();
});
place("more-filters").addEventListener("click", () => {
  const rest = place("rest");
  rest.hidden = !rest.hidden;
  place("more-filters").setAttribute("aria-expanded", String(!rest.hidden));
});
place("show-more").addEventListener("click", () => {
  const made = showMore();
  if (made.length) made[0].focus();
});
place("filters").addEventListener("input", look);
place("filters").addEventListener("submit", (event) => event.preventDefault());
place("filters").addEventListener("reset", () => setTimeout(look, 0));
place("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing && !place("picture").open) {
    event.preventDefault();
    place("search").focus();
  }
});
makeFilters();
look();
