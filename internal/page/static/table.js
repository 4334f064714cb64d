import { el, setAttribute, setText } from './dom.js';

// A table that is sorted by the button in a column's head, and whose rows stay the same elements while their cells change.
//
// columns: {title, text(row), sort(row), numeric, wide, head, button(row), pressed(row), mark(row)}: head is the row's own head; a
// cell with a button has one that is called with the row; a wide one has a line for itself on a phone. key(row) tells rows apart.
export class Table {
  constructor({ caption, columns, key, limit = 100, empty }) {
    Object.assign(this, { columns, key, step: limit, limit, empty, rows: [], shown: new Map(), by: 0, down: false });
    this.heads = columns.map((column, index) => el('th', { scope: 'col', role: 'columnheader', class: column.numeric ? 'number' : null },
      el('button', { type: 'button', onclick: () => this.sortBy(index) }, column.title)));
    this.body = el('tbody', { role: 'rowgroup' });
    this.more = el('button', { type: 'button', hidden: true, onclick: () => { this.limit += this.step; this.draw(); } });
    this.none = el('p', { class: 'none', hidden: true });
    this.table = el('table', { role: 'table' }, el('caption', {}, caption),
      el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...this.heads)), this.body);
    this.root = el('div', { class: 'table' }, this.table, this.none, this.more);
  }

  sortBy(index) {
    this.down = this.by === index ? !this.down : Boolean(this.columns[index].numeric);
    this.by = index;
    this.draw();
  }

  update(rows) {
    this.rows = rows;
    this.draw();
  }

  sorted() {
    const column = this.columns[this.by], value = column.sort ?? column.text, sign = this.down ? -1 : 1;
    const keyed = this.rows.map((row, index) => [value(row), index, row]);
    keyed.sort(([a, i], [b, j]) => sign * (typeof a === 'number' ? a - b : collator.compare(a, b)) || i - j);
    return keyed.map(([, , row]) => row);
  }

  draw() {
    this.heads.forEach((head, index) => setAttribute(head, 'aria-sort', index === this.by ? (this.down ? 'descending' : 'ascending') : null));
    const rows = this.sorted().slice(0, this.limit), before = this.shown;
    this.shown = new Map();
    let next = this.body.firstElementChild;
    for (const row of rows) {
      const key = this.key(row), line = before.get(key) ?? this.line();
      this.shown.set(key, line);
      before.delete(key);
      line.row = row;
      this.columns.forEach((column, index) => this.cell(line, column, index));
      if (line.tr === next) next = next.nextElementSibling;
      else this.body.insertBefore(line.tr, next);
    }
    for (const { tr } of before.values()) tr.remove();
    this.more.hidden = this.rows.length <= this.limit;
    setText(this.more, `Show more of ${this.rows.length}`);
    this.none.hidden = this.rows.length > 0;
    this.table.hidden = this.rows.length === 0;
    setText(this.none, this.empty);
  }

  line() {
    const line = {};
    line.cells = this.columns.map((column) => {
      const cell = el(column.head ? 'th' : 'td', { scope: column.head ? 'row' : null, role: column.head ? 'rowheader' : 'cell', class: column.numeric ? 'number' : column.wide ? 'wide' : null, 'data-title': column.title });
      if (!column.button) return { cell, text: cell.appendChild(el('span')) };
      return { cell, text: cell.appendChild(el('button', { type: 'button', class: 'row', onclick: () => column.button(line.row) })) };
    });
    line.tr = el('tr', { role: 'row' }, ...line.cells.map(({ cell }) => cell));
    return line;
  }

  cell(line, column, index) {
    const { cell, text } = line.cells[index];
    const said = column.text(line.row);
    setText(text, said || '–');
    cell.classList.toggle('empty', !said);
    if (column.pressed) setAttribute(text, 'aria-pressed', column.pressed(line.row));
    if (column.mark) setAttribute(cell, 'data-mark', column.mark(line.row));
  }
}

const collator = new Intl.Collator('en', { numeric: true });
