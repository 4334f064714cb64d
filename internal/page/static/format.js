// Numbers for people.

function scaled(value, units) {
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = value >= 99.5 || unit === 0 && value >= 10 || value === 0 ? 0 : value >= 9.95 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${units[unit]}`;
}

const bitUnits = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s', 'Tbit/s'];

// Of bytes a second, the bits that networks are measured in.
export const bits = (bytes) => scaled(bytes * 8, bitUnits);

export const shortBits = (bytes) => scaled(bytes * 8, ['', 'k', 'M', 'G', 'T']).trim();

export const perSecond = (packets) => scaled(packets, ['/s', 'k/s', 'M/s', 'G/s']);

export const count = (number) => number.toLocaleString('en');

export function several(number, one, more = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

export function duration(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min` : `${Math.floor(seconds)} s`;
}

export const clock = (milliseconds) => new Date(milliseconds).toLocaleTimeString('en-GB');
