// Answers each case of a JSON list on standard input with cloud-copilot's iam-simulate: {allowed, ignored, error}, as JSON.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
const found = createRequire(pathToFileURL(process.cwd() + '/')).resolve('@cloud-copilot/iam-simulate')
const { runSimulation } = await import(pathToFileURL(found))

const chunks = []
for await (const chunk of process.stdin) chunks.push(chunk)
const { policies, cases } = JSON.parse(Buffer.concat(chunks))
const answers = []
for (const one of cases) {
  const simulation = {
    request: { principal: one.principal, action: one.action, resource: { resource: one.resource, accountId: one.account }, contextVariables: one.context },
    identityPolicies: [{ name: 'identity', policy: policies[one.identity] }],
    serviceControlPolicies: [],
    resourceControlPolicies: [],
    resourcePolicy: one.attached === null ? undefined : policies[one.attached],
    permissionBoundaryPolicies: one.boundary === null ? undefined : [{ name: 'boundary', policy: policies[one.boundary] }],
  }
  const answer = await runSimulation(simulation, {})
  if (answer.resultType === 'error') answers.push({ error: JSON.stringify(answer.errors) })
  else if (answer.resultType === 'single') answers.push({ allowed: answer.result.analysis.result === 'Allowed', ignored: answer.result.ignoredContextKeys ?? [] })
  else answers.push({ allowed: answer.results.length > 0 && answer.results.every((each) => each.analysis.result === 'Allowed'), ignored: answer.results.flatMap((each) => each.ignoredContextKeys ?? []) })
}
process.stdout.write(JSON.stringify(answers))
