import { connect } from './client.js';

const $ = (id) => document.getElementById(id);
const TRANSPORTS = { websocket: 'WebSocket', events: 'events', poll: 'polls' };
const MODES = { echo: {}, publish: { mode: 'publish' }, others: { mode: 'publish', echo: 'off' } };
let live = null;

const channel = () => $('channel').value;
const token = () => $('token').value;
const bearer = () => token() ? { Authorization: `Bearer ${token()}` } : {};
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const problem = (line) => { $('problem').textContent = line; };

/** The line for a terminal that does the same. The token is not in it. */
function terminal(command, path, more = '') {
  const flag = token() ? '-H "Authorization: Bearer $TOKEN" ' : '';
  $('curl').textContent = `${command} ${flag}${more}${quoted(path)}`;
}

function status(is, line) {
  $('status').dataset.is = is;
  $('status').textContent = line;
  $('connect').textContent = live ? 'Disconnect' : 'Connect';
  $('connect').classList.toggle('main', !live);
  $('send').disabled = is !== 'on' || live.transport !== 'websocket';
  for (const id of ['channel', 'transport', 'mode', 'token']) $(id).disabled = Boolean(live);
}

function element(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function show(by, text, id = '', className = '') {
  const log = $('log'), below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.querySelector('.none')?.remove();
  const item = element('li', className, '');
  const time = element('time', '', new Date().toLocaleTimeString());
  item.append(time, element('span', 'by', by), element('span', 'what', text), element('code', 'id', id));
  log.append(item);
  while (log.children.length > 500) log.firstChild.remove();
  if (below) log.scrollTop = log.scrollHeight;
}

const on = {
  message({ id, data, from }) {
    const text = typeof data === 'string' ? data : `[${data.byteLength} bytes]`;
    show(from ?? (id ? 'published' : 'echo'), text, id);
  },
  recovered({ recovered, reason }) {
    show('reconnected', recovered ? 'Everything that was missed has arrived.' : `Messages may be missing: ${reason}`, '', 'note');
  },
  status({ status: now, transport, delay, reason }) {
    if (now === 'connecting') status('wait', 'connecting');
    if (now === 'connected') {
      problem('');
      status('on', `connected to ${channel()} by ${TRANSPORTS[transport]}`);
    }
    if (now === 'waiting') {
      problem(reason);
      status('wait', delay === undefined ? 'offline' : `reconnecting in ${(delay / 1000).toFixed(1)} s`);
    }
    if (now === 'closed') {
      live = null;
      problem(reason);
      status('', 'not connected');
    }
  },
  error({ message }) {
    problem(message);
  },
};

function open() {
  problem('');
  const chosen = $('transport').value, mode = $('mode').value;
  const params = MODES[mode];
  const query = `?channel=${encodeURIComponent(channel())}`;
  if (chosen === 'events') terminal('curl -N', `${location.origin}/api/events${query}`);
  else if (chosen === 'poll') terminal('curl', `${location.origin}/api/poll${query}`);
  else terminal('npx wscat', `${location.origin.replace(/^http/, 'ws')}/api/websocket${query}&${new URLSearchParams(params)}`.replace(/&$/, ''), '-c ');
  live = connect(location.origin, {
    channels: [channel()],
    params: chosen === 'events' || chosen === 'poll' ? {} : params,
    transports: chosen === 'auto' ? undefined : [chosen],
    token: token() || undefined,
  });
  for (const [type, listener] of Object.entries(on)) live.addEventListener(type, ({ detail }) => listener(detail));
}

$('connection').addEventListener('submit', (event) => {
  event.preventDefault();
  if (!live) return open();
  live.close();
  problem('');
});
$('transport').addEventListener('change', () => { $('mode').disabled = ['events', 'poll'].includes($('transport').value); });
$('message').addEventListener('submit', (event) => {
  event.preventDefault();
  if (!live) return;
  live.send($('text').value).catch(({ message }) => problem(`The message was not sent: ${message}`));
  $('text').focus();
  $('text').select();
});
$('text').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey) {
    event.preventDefault();
    ($('send').disabled ? $('broadcast') : $('send')).click();
  }
});
$('broadcast').addEventListener('click', async () => {
  if (!$('connection').reportValidity()) return;
  const text = $('text').value, path = `${location.origin}/api/broadcast?channel=${encodeURIComponent(channel())}`;
  terminal('curl', path, `-H 'Content-Type: text/plain' --data-raw ${quoted(text)} `);
  try {
    const response = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'text/plain', ...bearer() }, body: text });
    problem(response.ok ? '' : `The broadcast was rejected: ${response.status}: ${(await response.text()).trim()}`);
  } catch {
    problem('The broadcast did not reach the service.');
  }
});
terminal('curl', `${location.origin}/api/broadcast`, "-H 'Content-Type: text/plain' -d Hello ");
status('', 'not connected');
