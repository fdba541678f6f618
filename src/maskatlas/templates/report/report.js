"use strict";
// All of this is comfort: without it every number is still on the page, in tables.
(() => {
  const byId = (id) => document.getElementById(id);
  const element = (kind, text, parent) => {
    const made = document.createElement(kind);
    made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };

  // Tables sort by the column whose head is pressed; what is undefined stays below.
  const worth = (cell) => {
    const given = cell.dataset.value;
    const text = given === undefined ? cell.textContent.trim() : given;
    const number = Number(text);
    return text === "" || Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };
  const undefinedLast = (a, b, order) => {
    const missing = (value) => value === "" || value === "nan" || value === "None";
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    return order * compare(a, b);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.tagName !== "TH" || "unsorted" in head.dataset) return;
      const button = element("button", head.textContent.trim());
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("n") && column > 0;
        const now = head.getAttribute("aria-sort");
        const order = now ? (now === "ascending" ? -1 : 1) : numeric ? -1 : 1;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order > 0 ? "ascending" : "descending");
        const body = table.tBodies[0];
        const keyed = [...body.rows].map((row) => [worth(row.cells[column]), row]);
        keyed.sort((a, b) => undefinedLast(a[0], b[0], order));
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }

  // Table 1: one channel's row in words.
  const channels = byId("channel-table");
  if (channels) {
    const choice = byId("channel-choice");
    const answer = byId("channel-answer");
    const rows = [...channels.tBodies[0].rows];
    for (const row of rows) element("option", row.cells[0].textContent, choice);
    const show = () => {
      const row = rows[choice.selectedIndex];
      const list = document.createElement("dl");
      element("dt", "Most correlated", list);
      element("dd", [...row.cells].slice(1, -1).map((cell) => cell.textContent.trim().replace(/^(\S+) (.+)$/, "$1 ($2)")).filter(Boolean).join(", "), list);
      element("dt", "Masks open widest for", list);
      element("dd", "", list).append(...[...row.cells[row.cells.length - 1].cloneNode(true).childNodes]);
      answer.replaceChildren(list);
    };
    choice.addEventListener("change", show);
    byId("channel-tool").hidden = false;
    show();
  }

  // Pairs: the channels that two attributes share, and those that only one uses.
  const pairs = byId("pair-tool");
  if (pairs) {
    const known = JSON.parse(byId("channels-of-attributes").textContent);
    const [first, second, reading] = ["first", "second", "reading"].map((end) => byId("pair-" + end));
    const answer = byId("pair-answer");
    for (const name of known.attributes) {
      for (const select of [first, second]) element("option", name, select).dir = "auto";
    }
    [first.selectedIndex, second.selectedIndex] = known.start;
    const show = () => {
      const top = known.top[reading.value];
      const a = top[first.selectedIndex];
      const b = top[second.selectedIndex];
      const list = document.createElement("dl");
      const line = (lead, name, ids) => {
        const term = element("dt", lead, list);
        if (name !== null) element("bdi", name, term);
        element("dd", ids.join(", ") || "none", list);
      };
      line("Both use", null, a.filter((id) => b.includes(id)));
      line("Only ", known.attributes[first.selectedIndex], a.filter((id) => !b.includes(id)));
      line("Only ", known.attributes[second.selectedIndex], b.filter((id) => !a.includes(id)));
      answer.replaceChildren(list);
    };
    for (const select of [first, second, reading]) select.addEventListener("change", show);
    pairs.hidden = false;
    show();
  }

  // A link to a row opens what hides it.
  const reveal = () => {
    const target = location.hash.length > 1 && byId(decodeURIComponent(location.hash.slice(1)));
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") node.open = true;
    }
  };
  addEventListener("hashchange", reveal);
  reveal();
  addEventListener("beforeprint", () => {
    for (const closed of document.querySelectorAll("details")) closed.open = true;
  });

  // The contents show where one is.
  const links = new Map([...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]));
  const watcher = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  for (const section of document.querySelectorAll("main > section")) watcher.observe(section);
})();
