// What the pages of the console do in a browser beside htmx. Without it they can be read all the same.
(() => {
  "use strict";

  // Times in the viewer's zone. The server writes UTC.
  const zoned = new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "2-digit", day: "2-digit",
    hour: "2-digit", minute: "2-digit", second: "2-digit",
  });
  function localize(root) {
    for (const time of root.querySelectorAll("time[datetime]:not([data-local])")) {
      const moment = new Date(time.dateTime);
      if (Number.isNaN(moment.getTime())) continue;
      time.title = time.textContent;
      time.textContent = zoned.format(moment);
      time.dataset.local = "";
    }
  }

  // A field for a local time is sent with the viewer's zone; the server takes one without for UTC.
  function pad(number) {
    return String(number).padStart(2, "0");
  }
  function fillZonedFields() {
    for (const field of document.querySelectorAll("input[type=datetime-local]")) {
      const sent = document.querySelector(`input[type=hidden][data-for="${field.id}"]`);
      if (!sent) continue;
      field.removeAttribute("name");
      sent.disabled = false;
      if (sent.value) {
        const moment = new Date(/[zZ]|[+-]\d\d:\d\d$/.test(sent.value) ? sent.value : `${sent.value}Z`);
        if (!Number.isNaN(moment.getTime())) {
          field.value = `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())}T` +
            `${pad(moment.getHours())}:${pad(moment.getMinutes())}`;
        }
      }
      field.addEventListener("change", () => {
        sent.value = field.value ? new Date(field.value).toISOString() : "";
      });
    }
  }

  // New orders come in at the top, but never under somebody's pointer or selection: then they wait for a click.
  const waiting = new Map();
  function table() {
    return document.getElementById("orders");
  }
  function isBusy() {
    const orders = table();
    return orders.matches(":hover") || orders.contains(document.activeElement) ||
      orders.querySelector("input:checked") !== null;
  }
  function sayWaiting() {
    const button = document.getElementById("show-new");
    button.hidden = waiting.size === 0;
    button.textContent = waiting.size === 1 ? "Show 1 new order" : `Show ${waiting.size} new orders`;
  }
  function rowOf(text) {
    const template = document.createElement("template");
    template.innerHTML = text;
    return template.content.querySelector("tr");
  }
  function update(row) {
    for (const cell of row.querySelectorAll("td[id]")) document.getElementById(cell.id)?.replaceWith(cell);
  }
  function insert(row) {
    const rows = document.getElementById("rows");
    document.getElementById("none")?.remove();
    rows.prepend(row);
    localize(row);
    htmx.process(row);
    while (rows.rows.length > 100) rows.lastElementChild.remove();
  }
  function showWaiting() {
    for (const row of waiting.values()) insert(row);
    waiting.clear();
    sayWaiting();
  }
  document.addEventListener("htmx:sseBeforeMessage", (event) => {
    if (event.target.id !== "rows") return;
    event.preventDefault();
    const row = rowOf(event.detail.data);
    if (document.getElementById(row.id)) {
      update(row);
      return;
    }
    waiting.set(row.id, row);
    if (waiting.size > 100) waiting.delete(waiting.keys().next().value);
    if (isBusy()) sayWaiting();
    else showWaiting();
  });
  document.addEventListener("htmx:sseOpen", () => document.body.setAttribute("data-live", "on"));
  document.addEventListener("htmx:sseError", () => document.body.setAttribute("data-live", "off"));

  document.addEventListener("click", async (event) => {
    const target = event.target.closest("[data-copy], #show-new");
    if (!target) return;
    if (target.id === "show-new") {
      showWaiting();
      return;
    }
    const text = document.getElementById(target.dataset.copy).textContent;
    await navigator.clipboard.writeText(text);
    target.textContent = "Copied";
    setTimeout(() => { target.textContent = "Copy"; }, 2000);
  });

  document.addEventListener("change", (event) => {
    if (event.target.id !== "select-all") return;
    for (const box of document.querySelectorAll("#rows input[type=checkbox]")) box.checked = event.target.checked;
  });

  document.addEventListener("htmx:load", (event) => localize(event.detail.elt));
  localize(document);
  fillZonedFields();
  for (const element of document.querySelectorAll("[data-script]")) element.hidden = false;
})();
