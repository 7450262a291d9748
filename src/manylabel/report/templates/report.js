"use strict";
// The threshold explorer: looks counts up and divides; report/explorer.py does the same in Python.
(() => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const byId = (id) => document.getElementById(id);
  const space = "\u00a0";
  const perRows = 10000;

  const grouped = (value, digits) => {
    const [before, after] = value.toFixed(digits).split(".");
    const commas = before.replace(/\B(?=(\d{3})+$)/g, ",");
    return after === undefined ? commas : `${commas}.${after}`;
  };
  const ratio = (part, of, needs = 1) =>
    of && needs ? `${(100 * (part / of)).toFixed(1)}${space}%` : "undefined";
  const thresholdText = (cut) => cut.toFixed(cut > 0 && cut < 0.01 ? 6 : 4);

  const cards = [...document.querySelectorAll(".card")].map((root) => ({
    root,
    label: data.labels[Number(root.dataset.label)],
    slider: root.querySelector("input"),
    places: Object.fromEntries([...root.querySelectorAll("[data-is]")].map((place) => [place.dataset.is, place])),
  }));
  const costs = { fn: byId("cost-fn"), fp: byId("cost-fp") };

  const costOf = (field) => {
    const value = field.valueAsNumber;
    const isGood = Number.isFinite(value) && value >= 0 && value <= 1e6;
    field.setAttribute("aria-invalid", String(!isGood));
    return isGood ? value : 1;
  };

  const read = (card) => {
    const { label } = card;
    const at = Number(card.slider.value);
    const decided = label.decided[at];
    const tp = label.hits[at];
    const fp = decided - tp;
    const fn = label.positives - tp;
    return { cut: label.cuts[at], decided, tp, fp, fn, tn: label.annotated - label.positives - decided + tp };
  };

  const show = (card, cost) => {
    const { label, places } = card;
    const now = read(card);
    const spent = now.fn * cost.fn + now.fp * cost.fp;
    const texts = {
      threshold: thresholdText(now.cut),
      tp: grouped(now.tp, 0),
      fp: grouped(now.fp, 0),
      fn: grouped(now.fn, 0),
      tn: grouped(now.tn, 0),
      precision: ratio(now.tp, now.decided),
      recall: ratio(now.tp, label.positives),
      f1: ratio(2 * now.tp, now.decided + label.positives, label.positives),
      alerts: label.annotated ? grouped((now.decided * perRows) / label.annotated, 1) : "undefined",
      cost: label.annotated ? grouped((spent * perRows) / label.annotated, 1) : "undefined",
    };
    for (const [name, text] of Object.entries(texts)) places[name].textContent = text;
    card.slider.setAttribute("aria-valuetext", texts.threshold);
    card.root.classList.toggle("changed", Number(card.slider.value) !== label.start);
    return texts;
  };

  const showTotals = (cost) => {
    let alerts = 0;
    let spent = 0;
    for (const card of cards.filter(({ label }) => label.annotated)) {
      const now = read(card);
      alerts += (now.decided * perRows) / card.label.annotated;
      spent += ((now.fn * cost.fn + now.fp * cost.fp) * perRows) / card.label.annotated;
    }
    byId("total-alerts").textContent = grouped(alerts, 1);
    byId("total-cost").textContent = grouped(spent, 1);
    byId("total-changed").textContent = String(
      cards.filter(({ slider, label }) => Number(slider.value) !== label.start).length,
    );
  };

  // Letters that could rewrite a line are escaped; in JSON an escape means the same letter.
  const escaped = (text) =>
    text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (letter) =>
      [...Array(letter.length).keys()]
        .map((at) => `\\u${letter.charCodeAt(at).toString(16).padStart(4, "0")}`)
        .join(""),
    );
  const configText = () => {
    const lines = cards.map((card) => `    ${escaped(JSON.stringify(card.label.name))}: ${read(card).cut}`);
    return `{\n  "thresholds": {\n${lines.join(",\n")}\n  }\n}`;
  };

  const say = (sentence) => {
    byId("live").textContent = sentence;
  };
  const currentCosts = () => ({ fn: costOf(costs.fn), fp: costOf(costs.fp) });
  const showAll = () => {
    const cost = currentCosts();
    for (const card of cards) show(card, cost);
    showTotals(cost);
    byId("config").value = configText();
  };

  for (const card of cards) {
    card.slider.addEventListener("input", () => {
      const cost = currentCosts();
      const now = show(card, cost);
      showTotals(cost);
      byId("config").value = configText();
      const name = card.root.querySelector("h3").textContent;
      say(
        `${name} at ${now.threshold}: ${now.tp} right alerts, ${now.fp} false alarms, ${now.fn} misses; ` +
          `precision ${now.precision}, recall ${now.recall}, ${now.alerts} alerts per 10,000, cost ${now.cost}.`,
      );
    });
  }
  for (const field of Object.values(costs)) {
    field.addEventListener("input", () => {
      showAll();
      say(`Cost of all labels: ${byId("total-cost").textContent} per 10,000 rows.`);
    });
  }
  byId("reset").addEventListener("click", () => {
    for (const card of cards) card.slider.value = String(card.label.start);
    for (const field of Object.values(costs)) field.value = "1";
    showAll();
    say("All thresholds and costs are as they were.");
  });
  byId("copy").addEventListener("click", async () => {
    const field = byId("config");
    try {
      await navigator.clipboard.writeText(field.value);
      say("The thresholds were copied.");
    } catch {
      field.focus();
      field.select();
      say("The thresholds are selected: copy them with the keyboard.");
    }
  });

  const openAll = () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  };
  byId("open-all")?.addEventListener("click", () => {
    for (const strip of document.querySelectorAll(".strip")) strip.open = true;
  });
  window.addEventListener("beforeprint", openAll);

  byId("no-script").hidden = true;
  showAll();
})();
