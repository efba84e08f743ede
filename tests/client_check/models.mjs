// Writes the models of asyncapi.yaml, and after them each message of a session as a value of its model: DOCUMENT SESSION FILE.
// The compiler finds what is wrong: a literal may have no member that its type does not have.
import { readFileSync, writeFileSync } from 'node:fs'
import { TypeScriptGenerator } from '@asyncapi/modelina'

const [document, session, file] = process.argv.slice(2)
const generator = new TypeScriptGenerator({ modelType: 'interface', rawPropertyNames: true, enumType: 'union', mapType: 'record' })
const models = await generator.generate(readFileSync(document, 'utf8'))
const names = new Set(models.map(model => model.modelName))
const known = { resync_required: 'ResyncRequired', error: 'ErrorMessage', token_expires: 'TokenExpires', token_accepted: 'TokenAccepted' }
const { said, heard } = JSON.parse(readFileSync(session, 'utf8'))
const values = [...said, ...heard].map((message, at) => {
  const name = known[message.type] ?? message.type[0].toUpperCase() + message.type.slice(1)
  return `export const message${at}: ${names.has(name) ? name : 'StoreEvent'} = ${JSON.stringify(message)}`
})
writeFileSync(file, [...models.map(model => model.result), ...values].join('\n'))
