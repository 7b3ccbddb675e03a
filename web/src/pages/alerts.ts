/** Alert rules and their recent changes, for the status page. */

import type { Alerts, AlertsHealth, AlertRule } from '../api.ts';
import { moment } from '../api.ts';
import { h } from '../dom.ts';
import { prose } from '../empty.ts';
import { duration, plural, short } from '../format.ts';
import { ago, local } from '../time.ts';

/** A state with its sign, so that it does not hang on colour alone. */
function badge(state: string): HTMLElement {
  const kinds: Record<string, [string, string]> = {
    firing: ['bad', '▲ firing'],
    pending: ['warn', '△ pending'],
    resolved: ['good', 'resolved'],
    no_data: ['warn', '? no data'],
    failed: ['bad', '✕ not evaluated'],
  };
  const [kind, words] = kinds[state] ?? ['good', 'ok'];
  return h('span', { class: `state ${kind}` }, words);
}

function ruleRow(rule: AlertRule): HTMLElement {
  return h(
    'tr',
    {},
    h('td', { class: 'nowrap' }, h('b', {}, rule.name)),
    h('td', {}, badge(rule.state)),
    h('td', {}, rule.severity),
    h(
      'td',
      { class: 'nowrap', title: checked(rule) },
      rule.built_in ? 'built in' : `every ${rule.interval}, held ${rule.hold}`,
    ),
    h('td', { class: 'mono grow' }, h('span', { class: 'clip', title: rule.sql }, rule.error ?? rule.sql)),
  );
}

/** How a rule's evaluations went. */
function checked(rule: AlertRule): string {
  const { evaluations } = rule;
  if (!evaluations) return '';
  const parts = [
    evaluations.last ? `last ${local(moment(evaluations.last))}, took ${duration(evaluations.last_ms * 1e6)}` : 'not yet',
    ...(['failed', 'missed', 'no_data'] as const)
      .filter((key) => evaluations[key] > 0)
      .map((key) => `${evaluations[key]} ${key === 'no_data' ? 'without data' : key}`),
  ];
  return parts.join(', ');
}

/** Where messages go, and whether they arrive. */
function slackWords(health: AlertsHealth): HTMLElement {
  const { slack } = health;
  if (!slack) return h('span', { class: 'muted' }, 'Slack is not configured');
  const counts = [
    slack.waiting > 0 ? `${plural(slack.waiting, 'message')} waiting` : '',
    slack.refused > 0 ? `${plural(slack.refused, 'message')} refused` : '',
    slack.folded > 0 ? `${plural(slack.folded, 'message')} too late, and folded into one` : '',
    slack.error ?? '',
  ].filter(Boolean);
  return h(
    'span',
    { class: counts.length > 0 ? 'bad' : 'muted' },
    counts.length > 0 ? `Slack: ${counts.join(', ')}` : 'Slack is configured',
  );
}

export function alertsSection(alerts: Alerts, health: AlertsHealth): HTMLElement {
  const { changes } = alerts;
  // What is built in is of interest once it has something to say.
  const rules = alerts.rules.filter((rule) => !rule.built_in || rule.state !== 'ok');
  const head = (...names: string[]): HTMLElement =>
    h('thead', {}, h('tr', {}, ...names.map((name) => h('th', { scope: 'col' }, name))));
  const ruleTable =
    rules.length === 0
      ? h(
          'p',
          { class: 'panel-message' },
          prose(
            'No rules are configured. A rule is SQL in `hitscope.toml`, under `[[rules]]`; it fires when its query gives rows.',
          ),
        )
      : h(
          'div',
          { class: 'table-box plain' },
          h(
            'table',
            { 'aria-label': 'Alert rules' },
            head('Rule', 'State', 'Severity', 'Checked', 'Query'),
            h('tbody', {}, ...rules.map(ruleRow)),
          ),
        );
  const rows = changes.map((change) => {
    const time = moment(change.time);
    return h(
      'tr',
      {},
      h(
        'td',
        { class: 'mono nowrap', title: change.time },
        local(time),
        h('span', { class: 'muted' }, ` ${ago(time)}`),
      ),
      h('td', { class: 'nowrap' }, change.rule),
      h('td', {}, badge(change.state)),
      h('td', { class: 'number' }, change.value === null ? '' : short(change.value)),
      h('td', { class: 'grow' }, h('span', { class: 'clip', title: change.message }, change.message)),
      h(
        'td',
        { class: 'delivery-cell' },
        h(
          'span',
          {
            class: `clip ${change.delivery === 'sent' || change.delivery === 'none' ? 'muted' : 'bad'}`,
            title: change.delivery,
          },
          change.delivery === 'none' ? 'not told' : change.delivery,
        ),
      ),
    );
  });
  return h(
    'section',
    { class: 'panel' },
    h(
      'header',
      { class: 'panel-head' },
      h('h2', {}, 'Alerts'),
      h(
        'span',
        { class: 'muted' },
        rules.length === 0 ? '' : `${rules.filter((rule) => rule.state === 'firing').length} of ${rules.length} firing`,
      ),
      rules.length === 0 ? null : slackWords(health),
    ),
    ruleTable,
    rows.length === 0
      ? h('p', { class: 'panel-message' }, rules.length === 0 ? '' : 'No rule has changed its state yet.')
      : h(
          'div',
          {},
          h('h3', { class: 'panel-sub' }, 'Recent changes'),
          h(
            'div',
            { class: 'table-box plain' },
            h(
              'table',
              { 'aria-label': 'Recent changes of alerts' },
              head('When', 'Rule', 'State', 'Value', 'Message', 'Slack'),
              h('tbody', {}, ...rows),
            ),
          ),
        ),
  );
}
